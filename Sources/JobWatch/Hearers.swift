import JobModel

/// Who is to be told of something: watches of the job, and of users and queues.
struct Hearers: Sendable {
    var named: SmallMap<ObjectIdentifier, Subscription>?
    var scopes: [Subscription]

    var isEmpty: Bool { named == nil && scopes.isEmpty }

    /// False when a watch of the job wants it once more (`Subscription.receive`).
    @discardableResult
    func tell(_ news: JobNews) -> Bool {
        var isSure = true
        named?.forEach { isSure = $0.receive(news) && isSure }
        for scope in scopes { scope.receive(news) }
        return isSure
    }
}
