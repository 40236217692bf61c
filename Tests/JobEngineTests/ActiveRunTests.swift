import JobModel
import Support
import Synchronization
import Testing

@testable import JobEngine

@Suite(.timeLimit(.minutes(3))) struct ActiveRunTests {
    private func run(_ store: ScriptedStore, _ naps: Naps = Naps()) -> ActiveRun {
        return ActiveRun(
            .sample(), definition: KindDefinition(kind: "k", timeout: .seconds(60)),
            pool: RunnerPool(id: 1, runners: [], concurrency: 1), context: store.context(naps.runtime))
    }

    /// Returns when nothing is left to be written, with whether the store says when the commit is over.
    private func finish(_ run: ActiveRun, _ runner: ScriptedRunner) async -> Bool {
        await withCheckedContinuation { continuation in
            run.begin(runner) { continuation.resume(returning: $0) }
        }
    }

    private static let succeeded = Verdict.final(.succeeded, nil, ScriptedRunner.done)

    private static func cancelled(_ note: String) -> Verdict {
        .final(.cancelled, JobError(message: note, cause: .cancelled), nil)
    }

    /// The node began to stop, or the job was cancelled, while its claim was on the way.
    @Test(arguments: [true, false])
    func runThatIsStoppedBeforeItBeginsDoesNotBegin(_ isGivenUp: Bool) async throws {
        let released = Verdict.again(
            .released, JobError(message: "the node that ran the attempt shut down", cause: .released),
            after: nil, countsAttempt: false)
        let ends: [(RunSupervision.StopReason, [Verdict])] = [
            (.released, [released]), (.cancelled(note: "why"), [Self.cancelled("why")]), (.leaseLost, []),
        ]
        for (reason, verdicts) in ends {
            let store = ScriptedStore()
            let run = run(store)
            run.stop(reason, grace: .zero)
            if isGivenUp { run.tick(.now) }
            let hasBegun = Mutex(false)
            let runner = ScriptedRunner { _ in
                hasBegun.withLock { $0 = true }
                return ScriptedRunner.done
            }
            let storeWakesClaimers = await finish(run, runner)
            #expect(store.verdicts == verdicts && storeWakesClaimers == !verdicts.isEmpty)
            await run.waitForHandler()
            #expect(!hasBegun.withLock { $0 })
        }
    }

    @Test func endIsWrittenUntilTheStoreTakesIt() async {
        let away = Result<FinishResult, StoreError>.failure(.unavailable("away"))
        let store = ScriptedStore(Array(repeating: away, count: 7))
        let naps = Naps()
        #expect(await finish(run(store, naps), ScriptedRunner { _ in ScriptedRunner.done }))
        #expect(store.verdicts == Array(repeating: Self.succeeded, count: 8))
        // Each half of 50, 100, … milliseconds, up to a second.
        #expect(naps.all == [25, 50, 100, 200, 400, 500, 500].map { .milliseconds($0) })
    }

    @Test func endOfALostRunIsNotWrittenAgain() async {
        let store = ScriptedStore([.success(.stale)])
        #expect(await finish(run(store), ScriptedRunner { _ in ScriptedRunner.done }))
        #expect(store.verdicts == [Self.succeeded])
    }

    /// The run was to be tried again, and the job was cancelled meanwhile.
    @Test func cancelledMeanwhile() async {
        let store = ScriptedStore([.success(.cancelRequested(note: "why"))])
        #expect(await finish(run(store), ScriptedRunner { _ in throw RunFailure(message: "no") }))
        #expect(store.verdicts.count == 2 && store.verdicts.last == Self.cancelled("why"))
    }

    /// The database is away until after the lease: the end is for another node to write.
    @Test(arguments: [true, false]) func lostLeaseEndsTheAttemptsToWrite(_ isGivenUp: Bool) async {
        let store = ScriptedStore(Array(repeating: .failure(.unavailable("away")), count: 100))
        let held = Mutex<ActiveRun?>(nil)
        let naps = Naps { held.withLock { $0 }?.stop(.leaseLost) }
        let run = run(store, naps)
        held.withLock { $0 = run }
        if isGivenUp {
            run.stop(.cancelled(note: "why"), grace: .zero)
            run.tick(.now)
        }
        #expect(await !finish(run, ScriptedRunner { _ in ScriptedRunner.done }))
        #expect(store.verdicts.count == 2 && naps.all.count == 1)
    }

    /// The lease is lost while the handler runs: others may run the job, and nothing is written.
    @Test func runOfALostLeaseWritesNothing() async {
        let store = ScriptedStore()
        let run = run(store)
        let runner = ScriptedRunner { _ in
            run.log(.info, "line")
            run.stop(.leaseLost)
            return ScriptedRunner.done
        }
        #expect(await !finish(run, runner))
        #expect(store.verdicts.isEmpty && store.updates.isEmpty)
    }

    /// The store does not have the run any more: its handler is stopped.
    @Test func aRunThatTheStoreHasLostIsStopped() async {
        let store = ScriptedStore()
        let run = run(store)
        let runner = ScriptedRunner { _ in
            run.lose()
            // It is cancelled, which ends this.
            let (never, continuation) = AsyncStream<Never>.makeStream()
            for await _ in never {}
            continuation.finish()
            return ScriptedRunner.done
        }
        #expect(await !finish(run, runner))
        #expect(store.verdicts.isEmpty && run.stopReason == .leaseLost)
    }

    /// A renewal of the lease also names runs whose end was just written.
    @Test func aRunWhoseHandlerHasEndedIsNotStopped() async {
        let held = Mutex<ActiveRun?>(nil)
        let store = ScriptedStore(onCall: { call in
            if call == .finish { held.withLock { $0 }?.lose() }
        })
        let run = run(store)
        held.withLock { $0 = run }
        #expect(await finish(run, ScriptedRunner { _ in ScriptedRunner.done }))
        #expect(store.verdicts.count == 1 && run.stopReason == nil)
    }

    /// A run whose checkpoint has come to the store, which answers when `answer` is called.
    ///
    /// - Parameter body: `outcome` is what `save` throws, or `Saved`.
    private func savingRun(
        _ body: (ActiveRun, _ answer: () -> Void, _ outcome: () async -> (any Error)?) async -> Void
    ) async {
        let (comes, came) = AsyncStream<Void>.makeStream()
        let (answers, answer) = AsyncStream<Void>.makeStream()
        // A task of its own: the write goes on whatever is cancelled.
        let answered = Task { for await _ in answers {} }
        let run = run(
            ScriptedStore(onCheckpoint: {
                came.yield()
                await answered.value
            }))
        let (results, result) = AsyncStream<any Error>.makeStream()
        let runner = ScriptedRunner { run in
            do {
                try await run.save(checkpoint: [1])
                result.yield(Saved())
            } catch {
                result.yield(error)
            }
            return ScriptedRunner.done
        }
        async let isTold = finish(run, runner)
        for await _ in comes { break }
        await body(run, { answer.finish() }, { await results.first { _ in true } })
        answer.finish()
        await run.waitForHandler()
        _ = await isTold
    }

    private struct Saved: Error {}

    private static let stops: [RunSupervision.StopReason] = [
        .timeout, .cancelled(note: "why"), .released, .leaseLost,
    ]

    /// The next attempt may begin, whenever the store answers.
    @Test(.timeLimit(.minutes(1)), arguments: stops)
    func abandonedRunDoesNotWaitForItsCheckpoint(_ reason: RunSupervision.StopReason) async {
        await savingRun { run, _, outcome in
            run.stop(reason, grace: .zero)
            run.tick(.now)
            #expect(await outcome() is CancellationError)
        }
    }

    /// The next attempt should have it.
    @Test(arguments: stops)
    func stoppedRunWaitsForItsCheckpoint(_ reason: RunSupervision.StopReason) async {
        await savingRun { run, answer, outcome in
            run.stop(reason)
            answer()
            #expect(await outcome() is Saved)
        }
    }

    /// What a run says last is saved before its end is written.
    @Test func updatesAreSavedBeforeTheEnd() async throws {
        let store = ScriptedStore()
        let run = run(store)
        let runner = ScriptedRunner { run in
            run.report(stage: "a", fraction: 0.5, message: "", done: 1, total: 2)
            run.report(stage: "b", fraction: 1, message: "", done: 2, total: 2)
            run.log(.info, "line")
            return ScriptedRunner.done
        }
        #expect(await finish(run, runner))
        let update = try #require(store.updates.first)
        #expect(store.updates.count == 1)
        #expect(update.progress?.stage == "b" && update.log.map(\.message) == ["line"])
        #expect(update.run.fence == run.claimed.fence)
    }

    /// `RunUpdateWriter` is saving when the handler ends.
    @Test func endWaitsForASaveThatIsUnderWay() async throws {
        let store = ScriptedStore()
        let run = run(store)
        let (takes, taken) = AsyncStream<RunUpdate?>.makeStream()
        let runner = ScriptedRunner { handled in
            handled.log(.info, "first")
            taken.yield(run.takeUpdate())
            return ScriptedRunner.done
        }
        async let storeWakesClaimers = finish(run, runner)
        for await update in takes {
            let update = try #require(update)
            await run.waitForHandler()
            #expect(store.verdicts.isEmpty)
            // It failed, so the end saves it once more.
            run.updateIsOver(update, isSaved: false)
            break
        }
        #expect(await storeWakesClaimers)
        #expect(store.updates.map { $0.log.map(\.message) } == [["first"]])
        #expect(store.verdicts == [Self.succeeded])
    }
}
