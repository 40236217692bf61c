import JobModel
import Logging
import Postgres
import Support
import Synchronization
import Testing

@testable import JobStore
@testable import JobEngine

@Suite(.timeLimit(.minutes(1))) struct ActiveRunTests {
    /// Runs `body` with a run that was just claimed, and no database.
    private func withRun(_ body: (ActiveRun) async throws -> Void) async throws {
        let database = try Database(
            .init(
                connection: .init(
                    connectionString: "host=/nonexistent", applicationName: "tests",
                    logger: Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }), connectionCount: 1))
        let spec = JobSpec(kind: "k", userID: "u")
        let claimed = ClaimedRun(
            key: JobKey(number: 1, lane: 1, id: .version7(at: .now)), spec: spec, token: 1, attempt: 1,
            maxAttempts: spec.maxAttempts, sequence: 2, startedAt: .now, checkpoint: nil, lastLogLine: 0)
        let run = ActiveRun(
            claimed, definition: KindDefinition(kind: "k", timeout: .seconds(60)), grace: .seconds(60),
            store: JobStore(database: database, leaseDatabase: database), runtime: .system, publish: { _ in })
        try await body(run)
        await database.shutdown()
    }

    /// The node began to stop, or the job was cancelled, while its claim was on the way.
    @Test(arguments: [true, false])
    func runThatIsStoppedBeforeItBeginsDoesNotBegin(_ isGivenUp: Bool) async throws {
        let ends: [(RunSupervision.StopReason, RunEnd?)] = [
            (.released, .released), (.cancelled(reason: "why"), .cancelled(reason: "why")), (.leaseLost, nil),
        ]
        for (reason, end) in ends {
            try await withRun { run in
                run.stop(reason, grace: .zero)
                if isGivenUp { run.tick(.now) }
                let hasBegun = Mutex(false)
                let runner = ScriptedRunner { _ in
                    hasBegun.withLock { $0 = true }
                    return ScriptedRunner.done
                }
                let told = await withCheckedContinuation { continuation in
                    run.begin(runner) { continuation.resume(returning: $0) }
                }
                #expect(told == end)
                await run.waitForHandler()
                #expect(!hasBegun.withLock { $0 })
            }
        }
    }
}
