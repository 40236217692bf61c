import JobModel
import Logging
import Support
import Synchronization

/// A run on this node, from the start of its handler until its end is written.
final class ActiveRun: Sendable {
    /// Called once, when nothing is left to be written for the run.
    ///
    /// - Parameter storeWakesClaimers: whether the store has taken the end of the run, so that its `didFinishRuns` wakes
    ///   the claimers.
    typealias OnFinished = @Sendable (_ storeWakesClaimers: Bool) -> Void

    private struct State {
        var supervision: RunSupervision
        var updates: PendingUpdates
        var grace: Duration
        var task: Task<Void, Never>?
        var onFinished: OnFinished?
    }

    let claimed: ClaimedRun
    let pool: RunnerPool
    private let context: RunContext
    private let state: Mutex<State>
    private let softTimeoutEvent = OneShotEvent()
    private let abandonEvent = OneShotEvent()

    init(_ claimed: ClaimedRun, definition: KindDefinition, pool: RunnerPool, context: RunContext) {
        self.claimed = claimed
        self.pool = pool
        self.context = context
        let supervision = RunSupervision(
            now: context.runtime.now(), timeout: claimed.spec.timeout ?? definition.timeout,
            softTimeout: claimed.spec.softTimeout ?? definition.softTimeout, grace: context.grace)
        state = Mutex(
            State(
                supervision: supervision, updates: PendingUpdates(lastLogLine: claimed.lastLogLine),
                grace: context.grace))
    }

    /// For a log line about the run. Only built for lines that are written.
    private func metadata(_ more: Logger.Metadata = [:]) -> Logger.Metadata {
        more.merging(["job": "\(jobID)", "attempt": "\(attempt)", "user": "\(userID)"]) { first, _ in first }
    }

    // MARK: The handler

    /// Runs the handler, and writes the end of the run when the handler ends or is given up. A run that was stopped before
    /// does not begin. Must be called once.
    func begin(_ runner: any JobRunner, onFinished: @escaping OnFinished) {
        context.logger.debug("run started", metadata: metadata())
        // In one step with the check: a later `abandon` finds `onFinished`.
        let mayBegin = state.withLock { state in
            guard state.supervision.stopReason == nil else { return false }
            state.onFinished = onFinished
            return true
        }
        guard mayBegin else {
            let error = RunEndError(
                error: JobError(message: "the run was stopped before it began", cause: .handler))
            return ended(state.withLock { $0.supervision.end(.failure(error)) }, onFinished)
        }
        // The handler's is the only task of a run: to start another for each costs as much as all else that a short run
        // takes here.
        let task = context.runtime.start { [self] in
            let result = await result(of: runner)
            complete(result)
        }
        let isStopping = state.withLock { state in
            state.task = task
            return state.supervision.stopReason != nil
        }
        if isStopping { task.cancel() }
    }

    private func result(of runner: any JobRunner) async -> Result<JobResult, RunEndError> {
        do {
            let result = try await runner.run(self)
            guard result.data.count <= JobLimits.resultBytesMax else {
                throw RunFailure(
                    message:
                        "a result of \(result.data.count) bytes is over the limit of \(JobLimits.resultBytesMax)",
                    isPermanent: true)
            }
            return .success(result)
        } catch let failure as RunFailure {
            if let details = failure.details { logFailure(details) }
            return .failure(
                RunEndError(
                    error: JobError(
                        reason: failure.reason, message: failure.message,
                        cause: failure.isPermanent ? .handlerPermanent : .handler),
                    retryAfter: failure.retryAfter))
        } catch {
            logFailure("\(error)")
            let message = "the handler threw an error of type \(type(of: error))"
            return .failure(RunEndError(error: JobError(message: message, cause: .handler)))
        }
    }

    /// Logs details that the job's user must not see. The failure of a run that was stopped is not logged.
    private func logFailure(_ details: String) {
        guard stopReason == nil else { return }
        context.logger.warning("an attempt failed", metadata: metadata(["error": "\(details)"]))
    }

    /// The handler's task, which may go on after it was given up.
    func waitForHandler() async { await state.withLock(\.task)?.value }

    // MARK: Supervision

    func tick(_ now: ContinuousClock.Instant) {
        perform(state.withLock { $0.supervision.tick(now) })
    }

    /// Asks the handler to stop; `grace` can only shorten the time that it has for that.
    func stop(_ reason: RunSupervision.StopReason, grace: Duration? = nil) {
        let now = context.runtime.now()
        let action = state.withLock { state in
            if let grace { state.grace = min(state.grace, grace) }
            return state.supervision.stop(reason, now: now, grace: grace)
        }
        perform(action)
    }

    /// Stops the handler at once, and drops its result. Has no effect once the handler has ended: the end of the run is just
    /// being written then, or was written.
    func lose() {
        let goesOn = state.withLock { $0.onFinished != nil && $0.supervision.stopReason != .leaseLost }
        guard goesOn else { return }
        context.logger.error(
            "the database does not have this run for this node any more: it is stopped", metadata: metadata())
        stop(.leaseLost, grace: .zero)
    }

    /// Nil: the run was not asked to stop.
    var stopReason: RunSupervision.StopReason? { state.withLock(\.supervision.stopReason) }

    private func perform(_ action: RunSupervision.Action?) {
        switch action {
        case nil: break
        case .softTimeout:
            softTimeoutEvent.fire()
        case .stop:
            state.withLock(\.task)?.cancel()
        case .abandon:
            // First: what is left of the run should be over before the next attempt begins.
            abandonEvent.fire()
            complete(
                .failure(
                    RunEndError(
                        error: JobError(message: "the handler did not stop", cause: .handler))))
        }
    }

    // MARK: The end

    /// Only the first result counts: that of the handler, or that of giving it up.
    private func complete(_ result: Result<JobResult, RunEndError>) {
        let (onFinished, end) = state.withLock { ($0.onFinished.take(), $0.supervision.end(result)) }
        if let onFinished { ended(end, onFinished) }
    }

    /// - Parameter end: nil: the lease is lost, and nothing is to be written.
    private func ended(_ end: RunEnd?, _ onFinished: @escaping OnFinished) {
        guard let end else {
            context.logger.warning("dropped a run because its lease was lost", metadata: metadata())
            return onFinished(false)
        }
        guard hasUpdate else { return write(end, onFinished) }
        context.runtime.start { [self] in
            await saveUpdates()
            write(end, onFinished)
        }
    }

    /// Tries until it is written or the run belongs to another node: a result is not lost because the database is away for
    /// a while.
    private func write(
        _ end: RunEnd, _ onFinished: @escaping OnFinished, backoff: Backoff = .writing
    ) {
        let verdict = OutcomeRules.verdict(
            of: end, attemptsUsed: claimed.attemptsUsed, maxAttempts: claimed.spec.maxAttempts,
            policy: claimed.spec.retryPolicy, random: context.runtime.random())
        context.store.finish(FinishedRun(claimed, node: context.node, verdict: verdict)) { [self] outcome in
            switch outcome {
            case .success(.written):
                context.count(end)
                context.logger.debug("run ended", metadata: metadata(["end": "\(end.word)"]))
                onFinished(true)
            case .success(.cancelRequested(let note)):
                write(.cancelled(note: note), onFinished)
            case .success(.stale):
                context.logger.warning(
                    "the end of a run was not written: its lease was lost",
                    metadata: metadata(["end": "\(end.word)"]))
                onFinished(true)
            case .failure(let error):
                context.logger.warning(
                    "could not write the end of a run", metadata: metadata(["error": "\(error)"]))
                if stopReason == .leaseLost { return onFinished(false) }
                context.runtime.start { [self] in
                    var backoff = backoff
                    try? await context.runtime.sleep(for: backoff.next(random: context.runtime.random()))
                    write(end, onFinished, backoff: backoff)
                }
            }
        }
    }

    // MARK: Progress and log lines

    /// The unsaved updates, for a save that ends with `updateIsOver`. Nil: there are none, or a save is in flight.
    func takeUpdate() -> RunUpdate? {
        state.withLock { $0.updates.take(for: claimed) }
    }

    func updateIsOver(_ update: RunUpdate, isSaved: Bool) {
        let waiter = state.withLock { $0.updates.end(update, isSaved: isSaved) }
        waiter?.resume()
    }

    private var hasUpdate: Bool { state.withLock { !$0.updates.isEmpty } }

    /// Saves the last updates of the run before its end is written, because they would be dropped after that.
    private func saveUpdates() async {
        while hasUpdate {
            if let update = takeUpdate() {
                // One attempt only: the end of the run must not wait for its last updates.
                try? await context.store.save([update])
                updateIsOver(update, isSaved: true)
            } else {
                // `RunUpdateWriter` is saving, and the store ends that in bounded time. There may be more after it.
                await withCheckedContinuation { continuation in
                    let isSaving = state.withLock { $0.updates.wait(continuation) }
                    if !isSaving { continuation.resume() }
                }
            }
        }
    }
}

// MARK: What the handler sees

extension ActiveRun: Run {
    var jobID: JobID { claimed.key.id }
    var kind: String { claimed.spec.kind }
    var userID: String { claimed.spec.userID.text }
    var queue: String { claimed.spec.queue }
    var priority: Int { claimed.spec.priority }
    var labels: [ExactText: ExactText] { claimed.spec.labels }
    var attempt: Int { claimed.attempt }
    var attemptsUsed: Int { claimed.attemptsUsed }
    var maxAttempts: Int { claimed.spec.maxAttempts }
    var payload: [UInt8] { claimed.spec.payload }
    var contentType: String { claimed.spec.contentType.text }
    var checkpoint: [UInt8]? { claimed.checkpoint }
    var deadline: ContinuousClock.Instant { state.withLock(\.supervision.deadline) }
    var grace: Duration { state.withLock(\.grace) }

    func report(stage: String, fraction: Double?, message: String, done: Int64, total: Int64) {
        let now = context.runtime.date()
        let progress = state.withLock {
            $0.updates.report(
                Progress(
                    stage: stage, fraction: fraction, message: message, done: done, total: total,
                    updatedAt: now))
        }
        context.publish(.progress(claimed, progress))
    }

    func log(_ level: LogLine.Level, _ message: String) {
        let now = context.runtime.date()
        let line = state.withLock {
            $0.updates.log(level, message, at: now, attempt: attempt)
        }
        context.publish(.log(claimed.key, [line], isSaved: false))
    }

    func save(checkpoint: [UInt8]) async throws {
        guard checkpoint.count <= JobLimits.checkpointBytesMax else {
            throw RunFailure(
                message:
                    "a checkpoint of \(checkpoint.count) bytes is over the limit of \(JobLimits.checkpointBytesMax)",
                isPermanent: true)
        }
        var backoff = Backoff.writing
        while true {
            guard let answer = await answer(to: checkpoint) else { throw CancellationError() }
            do throws(StoreError) {
                return try answer.get()
            } catch {
                switch error {
                case .unavailable, .overloaded:
                    // It may have been written, and may be again: the store checks the run.
                    if stopReason != nil { throw CancellationError() }
                case .stale, .cancelled:
                    throw CancellationError()
                default:
                    // The database's error is for the operator; the failure's message is for the job's user.
                    context.logger.error(
                        "could not save a checkpoint", metadata: ["job": "\(jobID)", "error": "\(error)"])
                    throw RunFailure(message: "the checkpoint could not be saved")
                }
            }
            try await context.runtime.sleep(for: backoff.next(random: context.runtime.random()))
        }
    }

    /// The store's answer; nil: the run was abandoned before it came, and the next attempt may begin. The checkpoint may
    /// be written nevertheless, because the store checks the run.
    ///
    /// A write that is in flight when the handler is cancelled is waited for: the next attempt should have it.
    private func answer(to checkpoint: [UInt8]) async -> Result<Void, StoreError>? {
        if abandonEvent.hasFired { return nil }
        let answer = FirstValue<Result<Void, StoreError>?>()
        // In a task of its own: when the run is abandoned, the handler goes on before the write has ended.
        let write = context.runtime.start { [self] in
            do throws(StoreError) {
                try await context.store.save(checkpoint: checkpoint, of: claimed.fence)
                answer.set(.success(()))
            } catch {
                answer.set(.failure(error))
            }
        }
        // Has no effect once the answer has come.
        defer { write.cancel() }
        return await abandonEvent.calling {
            answer.set(nil)
        } while: {
            await withTaskCancellationHandler {
                await answer.get()
            } onCancel: {
                write.cancel()
            }
        }
    }

    func softTimeout() async throws { try await softTimeoutEvent.wait() }

    func abandoned() async throws { try await abandonEvent.wait() }
}

extension Backoff {
    /// Between attempts to write what a run has to keep, while the database is away.
    fileprivate static let writing = Backoff(initial: .milliseconds(50), most: .seconds(1))
}

extension RunEnd {
    /// For logs.
    fileprivate var word: String {
        switch self {
        case .succeeded: "succeeded"
        case .failed(let error, _): error.word
        case .timedOut: FailureCause.timeout.word
        case .cancelled: FailureCause.cancelled.word
        case .released: FailureCause.released.word
        case .interrupted: FailureCause.interrupted.word
        }
    }
}
