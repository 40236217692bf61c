import Foundation
import JobModel
import JobEngine
import Support

/// A typed handler as the workers run it: JSON in, JSON out.
struct HandlerRunner<Handler: JobHandler>: JobRunner {
    let handler: Handler

    var definition: KindDefinition {
        KindDefinition(
            kind: Handler.kind, timeout: handler.timeout, softTimeout: handler.softTimeout,
            onInterruption: handler.onInterruption == .retry ? .retry : .fail)
    }

    /// On threads that it may block.
    func run(_ run: any Run) async throws -> JobResult {
        try await withTaskExecutorPreference(HandlerThreads.shared) { try await attempt(run) }
    }

    private func attempt(_ run: any Run) async throws -> JobResult {
        let input: Handler.Input
        // A payload need not say that it is JSON, and then the API has not looked at it.
        if run.payload.count > JSONText.keyBytesMax, JSONText.verdict(on: run.payload) == .keyTooLong {
            throw RunFailure(
                reason: "bad_input",
                message: "the payload has a key of more than \(JSONText.keyBytesMax) bytes in its JSON",
                isPermanent: true)
        }
        do {
            // No payload is the JSON value null: for handlers whose input is optional.
            let payload = run.payload.isEmpty ? Data("null".utf8) : Data(run.payload)
            input = try JSONDecoder().decode(Handler.Input.self, from: payload)
        } catch {
            // A DecodingError is about the payload. Anything else a type's own code has thrown.
            let what = error is DecodingError ? "\(error)" : "an error of type \(type(of: error))"
            throw RunFailure(
                reason: "bad_input", message: "the payload is not what \(Handler.kind) takes: \(what)",
                isPermanent: true, details: error is DecodingError ? nil : "\(error)")
        }
        do {
            let output = try await handler.run(input, context: JobContext(run: run))
            let data = try JSONEncoder().encode(output)
            return JobResult(data: [UInt8](data), contentType: JobLimits.defaultContentType)
        } catch let failure as JobFailure {
            throw RunFailure(
                reason: failure.reason, message: failure.message, isPermanent: failure.isPermanent,
                retryAfter: failure.retryAfter, details: failure.details)
        }
    }
}
