/// An error with which a handler decides what happens next, and what the job's user reads.
public struct JobFailure: Error, Sendable, Hashable {
    /// A word for programs that names the failure, of at most 64 bytes. Empty: there is none.
    public var reason: String
    /// A message for the job's user, of at most 4,096 bytes.
    public var message: String
    /// Whether the job fails without another attempt.
    public var isPermanent: Bool
    /// The delay before the next attempt, instead of that of the job's retry policy.
    public var retryAfter: Duration?
    /// Details for the server's log only, such as paths or another library's error.
    public var details: String?

    /// A failure that ends the job.
    public static func permanent(
        _ message: String, reason: String = "", details: String? = nil
    ) -> JobFailure {
        JobFailure(
            reason: reason, message: message, isPermanent: true, retryAfter: nil, details: details)
    }

    /// A failure after which the job is retried, after the delay `after` or, if it is nil, that of its retry
    /// policy.
    public static func retry(
        _ message: String, reason: String = "", after: Duration? = nil, details: String? = nil
    ) -> JobFailure {
        JobFailure(
            reason: reason, message: message, isPermanent: false, retryAfter: after, details: details)
    }
}
