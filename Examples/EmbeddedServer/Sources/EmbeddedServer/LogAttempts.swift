import Logging
import Signalbox

/// Writes to the server's log how long each attempt took.
struct LogAttempts: JobMiddleware {
    func run(
        _ context: JobContext, next: @escaping @Sendable () async throws -> JobPayload
    ) async throws -> JobPayload {
        let start = ContinuousClock.now
        defer {
            context.logger.info("an attempt has ended", metadata: ["took": "\(start.duration(to: .now))"])
        }
        return try await next()
    }
}
