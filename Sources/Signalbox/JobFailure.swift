/// An error by which a handler decides what follows, and what the job's user reads.
public struct JobFailure: Error, Sendable, Hashable {
    /// A word for programs, at most 64 bytes.
    public var reason: String
    /// For the job's user, at most 4,096 bytes.
    public var message: String
    /// No attempt follows.
    public var isPermanent: Bool
    /// When to try again, instead of the delay of the job's retry policy.
    public var retryAfter: Duration?
    /// For the server's log only: paths, or another library's error.
    public var details: String?

    /// A failure that ends the job.
    public static func permanent(
        _ message: String, reason: String = "permanent", details: String? = nil
    ) -> JobFailure {
        JobFailure(
            reason: reason, message: message, isPermanent: true, retryAfter: nil, details: details)
    }

    /// A failure after which the job is tried again: after `after`, else as its retry policy says.
    public static func retry(
        _ message: String, reason: String = "failed", after: Duration? = nil, details: String? = nil
    ) -> JobFailure {
        JobFailure(
            reason: reason, message: message, isPermanent: false, retryAfter: after, details: details)
    }
}
