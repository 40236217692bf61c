import FoundationEssentials
package import JobModel
import Support

/// Kinds for tests and measurements, known only to a node started with `--test-kinds`.
package enum TestRunners {
    package static func all(on runtime: EngineRuntime) -> [any JobRunner] {
        [TestEchoRunner(), TestNoopRunner(), TestSleepRunner(on: runtime), TestFailRunner()]
    }

    /// Enough for the payloads of these kinds. It bounds the time of the decoder, which runs on the cooperative pool and
    /// puts every key into a table.
    private static let payloadBytesMax = 4 << 10

    fileprivate static func payload<T: Decodable>(_ type: T.Type, of run: any Run) throws -> T {
        guard run.payload.count <= payloadBytesMax else {
            throw wrongPayload(
                of: run.kind, "has \(run.payload.count) bytes; the kind takes at most \(payloadBytesMax)")
        }
        do {
            return try JSONDecoder().decode(type, from: Data(run.payload))
        } catch {
            throw wrongPayload(of: run.kind, "cannot be decoded: \(error)")
        }
    }

    fileprivate static func wrongPayload(of kind: String, _ what: String) -> RunFailure {
        RunFailure(
            message: "the payload of \(kind) \(what)".cut(toBytes: JobLimits.errorMessageBytesMax),
            isPermanent: true)
    }

    fileprivate static func json(_ value: some Encodable) throws -> JobResult {
        JobResult(data: Array(try JSONEncoder().encode(value)), contentType: JobLimits.defaultContentType)
    }
}

/// Returns its payload with its content type.
package struct TestEchoRunner: JobRunner {
    package let definition = KindDefinition(kind: "test.echo", timeout: .seconds(60))

    package init() {}

    package func run(_ run: any Run) async throws -> JobResult {
        JobResult(data: run.payload, contentType: ExactText(run.contentType))
    }
}

/// Does nothing; its result is `null`.
package struct TestNoopRunner: JobRunner {
    package let definition = KindDefinition(kind: "test.noop", timeout: .seconds(60))

    package init() {}

    package func run(_ run: any Run) async throws -> JobResult {
        JobResult(data: Array("null".utf8), contentType: JobLimits.defaultContentType)
    }
}

/// Sleeps `ms` milliseconds in `steps` equal parts and reports its progress after each. With more than one step it saves
/// checkpoints, and the next attempt continues after the last finished step.
package struct TestSleepRunner: JobRunner {
    package let definition = KindDefinition(kind: "test.sleep", timeout: .seconds(3600))

    package static let millisecondsMax = 3_600_000
    package static let stepsMax = 10_000

    private struct Payload: Decodable {
        var ms: Int
        var steps: Int?
    }

    private struct Checkpoint: Codable {
        var step: Int
    }

    private struct Output: Encodable {
        var slept_ms: Int
        var resumed_from_step: Int
        /// This machine's clock when the handler began, in microseconds since 1970.
        var started_at_us: Int64
    }

    private let runtime: EngineRuntime

    package init(on runtime: EngineRuntime) {
        self.runtime = runtime
    }

    package func run(_ run: any Run) async throws -> JobResult {
        let startedAt = runtime.date().microseconds
        let payload = try TestRunners.payload(Payload.self, of: run)
        let steps = payload.steps ?? 1
        guard (0...Self.millisecondsMax).contains(payload.ms), (1...Self.stepsMax).contains(steps) else {
            throw TestRunners.wrongPayload(
                of: run.kind,
                "needs ms from 0 to \(Self.millisecondsMax) and steps from 1 to \(Self.stepsMax)")
        }
        let checkpoint = run.checkpoint.flatMap {
            try? JSONDecoder().decode(Checkpoint.self, from: Data($0))
        }
        let first = min(max(0, checkpoint?.step ?? 0), steps)
        func untilStep(_ step: Int) -> Int { payload.ms * step / steps }
        for step in first..<steps {
            try await runtime.sleep(for: .milliseconds(untilStep(step + 1) - untilStep(step)))
            run.report(
                stage: "sleeping", fraction: Double(step + 1) / Double(steps), message: "",
                done: Int64(step + 1), total: Int64(steps))
            if steps > 1 {
                try await run.save(checkpoint: Array(JSONEncoder().encode(Checkpoint(step: step + 1))))
            }
        }
        return try TestRunners.json(
            Output(
                slept_ms: payload.ms - untilStep(first), resumed_from_step: first, started_at_us: startedAt))
    }
}

/// Fails its first `times` attempts, or for good.
package struct TestFailRunner: JobRunner {
    package let definition = KindDefinition(kind: "test.fail", timeout: .seconds(60))

    private struct Payload: Decodable {
        var times: Int?
        var permanent: Bool?
        var retry_after_ms: Int?
    }

    private struct Output: Encodable {
        var attempt: Int
    }

    package init() {}

    package func run(_ run: any Run) async throws -> JobResult {
        let payload = try TestRunners.payload(Payload.self, of: run)
        let delays = 0...Int(JobLimits.retryDelayMax.milliseconds)
        guard payload.retry_after_ms.map(delays.contains) ?? true else {
            throw TestRunners.wrongPayload(of: run.kind, "needs retry_after_ms from 0 to 30 days")
        }
        if payload.permanent == true {
            throw RunFailure(message: "failed permanently, as requested", isPermanent: true)
        }
        if run.attempt <= payload.times ?? 0 {
            throw RunFailure(
                message: "failed as requested, attempt \(run.attempt) of \(payload.times ?? 0)",
                retryAfter: payload.retry_after_ms.map { .milliseconds($0) })
        }
        return try TestRunners.json(Output(attempt: run.attempt))
    }
}
