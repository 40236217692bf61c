/// Code that runs around every attempt of a server's handlers, for example for logs, metrics, traces or a
/// transaction.
///
/// ```swift
/// struct Timing: JobMiddleware {
///     func run(
///         _ context: JobContext, next: @escaping @Sendable () async throws -> JobPayload
///     ) async throws -> JobPayload {
///         let start = ContinuousClock.now
///         defer { context.logger.info("attempt ended", metadata: ["took": "\(start.duration(to: .now))"]) }
///         return try await next()
///     }
/// }
/// ```
///
/// The first middleware of the list is the outermost. Commands and the kinds for tests run without middleware.
public protocol JobMiddleware: Sendable {
    /// Runs the rest of the attempt by `next`, usually once, and returns its result or another one. An error ends
    /// the attempt as an error of the handler does. If the payload cannot be decoded, `next` throws that error
    /// too.
    func run(
        _ context: JobContext, next: @escaping @Sendable () async throws -> JobPayload
    ) async throws -> JobPayload
}
