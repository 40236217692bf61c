package import JobModel
import JobStore
package import Support

/// A change of a user's limit, as it was written.
package struct UserLimitChange: Sendable {
    package var userID: ExactText
    /// Empty: the default queue.
    package var queue: ExactText
    /// 0 to `JobLimits.userLimitMax`; nil: not set.
    package var maxRunning: Int?
    /// The names of the fields to change, of which there is one: `max_running`. Empty: the fields that are set.
    package var mask: [ExactText]

    package init(
        userID: ExactText, queue: ExactText = "", maxRunning: Int? = nil, mask: [ExactText] = []
    ) {
        self.userID = userID
        self.queue = queue
        self.maxRunning = maxRunning
        self.mask = mask
    }

    private static let field: ExactText = "max_running"

    /// Throws `maskInvalid` for a field that cannot be changed, and `invalid` for wrong fields and if nothing is to be
    /// changed.
    fileprivate func check(_ violations: [FieldViolation]) throws(ServiceError) {
        var fields = FieldCheck(path: "limit.", violations: violations)
        fields.userID(userID, required: true)
        fields.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        fields.require(
            (0...JobLimits.userLimitMax).contains(maxRunning ?? 0), "max_running", .outOfRange,
            "is not within 0 to 100,000")
        fields.require(
            maxRunning != nil || !mask.isEmpty, "max_running", .required,
            "is not set, and update_mask does not name it: there is nothing to change")
        try ServiceError.check(fields.violations)
        if let index = mask.firstIndex(where: { $0 != Self.field }) {
            throw .maskInvalid(field: "update_mask.paths[\(index)]", allowed: Self.field.text)
        }
    }
}

extension AdminOperations {
    /// Sets how many jobs of a user may run at once in a queue, or removes the user's own limit. Returns the limit that
    /// applies then.
    package func updateUserLimit(
        _ change: UserLimitChange, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) -> UserLimit {
        try change.check(violations)
        try caller.check(change.userID, "limit.user_id")
        let userID = change.userID
        let queue = change.queue.nonEmpty?.text ?? JobLimits.defaultQueue
        return try await ServiceError.mapping(isWrite: true) { () async throws(StoreError) in
            try await store.setUserLimit(change.maxRunning, userID: userID, queue: queue, by: caller)
            do throws(StoreError) {
                return try await store.userLimit(userID: userID, queue: queue, default: defaultUserLimit)
            } catch {
                throw error.afterWrite
            }
        }
    }

    /// - Parameter queue: empty: the default queue.
    package func userLimit(
        userID: ExactText, queue: ExactText = "", found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> UserLimit {
        try Self.check(userID: userID, required: true, queue: queue, PageRequest(), violations)
        try caller.check(userID, "user_id")
        let queue = queue.nonEmpty?.text ?? JobLimits.defaultQueue
        return try await ServiceError.mapping { () async throws(StoreError) in
            try await store.userLimit(userID: userID, queue: queue, default: defaultUserLimit)
        }
    }

    /// One page of the limits that were set for the caller's users, in the order of user and queue.
    ///
    /// - Parameters:
    ///   - userID: empty: every user.
    ///   - queue: empty: every queue.
    package func userLimits(
        userID: ExactText = "", queue: ExactText = "", _ page: PageRequest = PageRequest(),
        found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> ListPage<UserLimit> {
        try Self.check(userID: userID, required: false, queue: queue, page, violations)
        var users = caller.users
        if let userID = userID.nonEmpty {
            try caller.check(userID, "user_id")
            users = .only([userID])
        }
        let size = page.size(max: JobLimits.pageSizeMax)
        let list = PagedList("ListUserLimits", userID.text, queue.text)
        return try await pageTokens.page(page, of: list, for: caller) { position throws(ServiceError) in
            try await ServiceError.mapping { () async throws(StoreError) in
                try await store.userLimits(
                    of: users, queue: queue.nonEmpty?.text, after: position, size: size)
            }
        }
    }

    private static func check(
        userID: ExactText, required: Bool, queue: ExactText, _ page: PageRequest,
        _ violations: [FieldViolation]
    ) throws(ServiceError) {
        var fields = FieldCheck(violations: violations)
        fields.userID(userID, required: required)
        fields.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        fields.page(page)
        try ServiceError.check(fields.violations)
    }
}
