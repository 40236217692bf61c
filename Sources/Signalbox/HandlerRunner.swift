import Foundation
package import JobModel
package import JobEngine
package import Logging
import SignalboxJobs
import Support

/// Runs the attempts of a handler, with middleware around them.
package struct HandlerRunner<Handler: RawJobHandler>: JobRunner {
    private let handler: Handler
    private let middleware: [any JobMiddleware]
    private let logger: Logger

    package init(_ handler: Handler, middleware: [any JobMiddleware] = [], logger: Logger) {
        self.handler = handler
        self.middleware = middleware
        self.logger = logger
    }

    package var definition: KindDefinition {
        KindDefinition(
            kind: Handler.kind, timeout: handler.timeout, softTimeout: handler.softTimeout,
            onInterruption: handler.onInterruption == .retry ? .retry : .fail)
    }

    /// Runs an attempt, on threads that the handler may block.
    package func run(_ run: any Run) async throws -> JobResult {
        try await withTaskExecutorPreference(HandlerThreads.executor.get()) {
            do {
                let context = JobContext(run: run, logger: logger)
                return try Self.result(try await attempt(context, after: 0))
            } catch let failure as JobFailure {
                throw RunFailure(
                    reason: failure.reason, message: failure.message, isPermanent: failure.isPermanent,
                    retryAfter: failure.retryAfter, details: failure.details)
            }
        }
    }

    /// Runs the rest of the chain.
    ///
    /// - Parameter index: the index of the next middleware.
    private func attempt(_ context: JobContext, after index: Int) async throws -> JobPayload {
        guard index < middleware.count else {
            return try await handler.run(payload: context.payload, context: context)
        }
        return try await middleware[index].run(context) { try await attempt(context, after: index + 1) }
    }

    private static func result(_ payload: JobPayload) throws -> JobResult {
        let contentType = ExactText(payload.contentType)
        guard (1...JobLimits.contentTypeBytesMax).contains(contentType.utf8.count),
            !contentType.hasControlCharacter
        else {
            throw JobFailure.permanent(
                "the content type of the result is not 1 to \(JobLimits.contentTypeBytesMax) bytes of text without "
                    + "control characters")
        }
        return JobResult(data: [UInt8](payload.data), contentType: contentType)
    }
}
