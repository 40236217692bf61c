import JobModel
import Logging
import Support
import Synchronization

/// A run on this node: what its handler sees of it, and what it has said that is not written yet.
final class ActiveRun: Run {
    /// Lines that wait to be written; more are dropped, oldest first.
    private static let logLinesWaitingMax = JobLimits.logLinesKept
    private static let logger = Logger(label: "signalbox")

    private struct State {
        var supervision: RunSupervision
        var progress: Progress?
        var lastReportAt = Timestamp(microseconds: 0)
        var log: [LogLine] = []
        var lastLogLine: Int64
        var grace: Duration
        var task: Task<Void, Never>?
        /// Called once, with what the end of the run means.
        var onEnd: (@Sendable (RunEnd?) -> Void)?
        var isSavingTelemetry = false
        var telemetryWaiter: CheckedContinuation<Void, Never>?
    }

    let claimed: ClaimedRun
    private let store: any EngineStore
    private let runtime: EngineRuntime
    private let publish: @Sendable (Notice) -> Void
    private let state: Mutex<State>
    private let softTimeoutMoment = Moment()
    private let abandonMoment = Moment()

    init(
        _ claimed: ClaimedRun, definition: KindDefinition, grace: Duration, store: any EngineStore,
        runtime: EngineRuntime, publish: @escaping @Sendable (Notice) -> Void
    ) {
        self.claimed = claimed
        self.store = store
        self.runtime = runtime
        self.publish = publish
        let supervision = RunSupervision(
            now: runtime.now(), timeout: claimed.spec.timeout ?? definition.timeout,
            softTimeout: claimed.spec.softTimeout ?? definition.softTimeout, grace: grace)
        state = Mutex(
            State(supervision: supervision, lastLogLine: claimed.lastLogLine, grace: grace))
    }

    /// For a log line about the run. Only built for lines that are written.
    func metadata(_ more: Logger.Metadata = [:]) -> Logger.Metadata {
        more.merging(["job": "\(jobID)", "attempt": "\(attempt)", "user": "\(userID)"]) { first, _ in first }
    }

    // MARK: What the handler sees

    var jobID: JobID { claimed.key.id }
    var kind: String { claimed.spec.kind }
    var userID: String { claimed.spec.userID.text }
    var queue: String { claimed.spec.queue }
    var attempt: Int { claimed.attempt }
    var maxAttempts: Int { claimed.maxAttempts }
    var payload: [UInt8] { claimed.spec.payload }
    var contentType: String { claimed.spec.contentType.text }
    var checkpoint: [UInt8]? { claimed.checkpoint }
    var grace: Duration { state.withLock(\.grace) }

    func report(stage: String, fraction: Double, message: String, step: Int, steps: Int) {
        let progress = state.withLock { state in
            // Each later than the one before, whatever the clock does: that is how they are told apart.
            let now = max(runtime.date(), state.lastReportAt.advanced(by: .microseconds(1)))
            state.lastReportAt = now
            let progress = Progress(
                stage: stage, fraction: fraction, message: message, step: step, steps: steps, updatedAt: now)
            state.progress = progress
            return progress
        }
        publish(.progress(claimed.key, attempt: attempt, progress))
    }

    func log(_ level: LogLine.Level, _ message: String) {
        let line = state.withLock { state in
            state.lastLogLine += 1
            let line = LogLine(
                number: state.lastLogLine, at: runtime.date(), attempt: attempt, level: level,
                message: message)
            if state.log.count >= Self.logLinesWaitingMax { state.log.removeFirst() }
            state.log.append(line)
            return line
        }
        publish(.log(claimed.key, [line], isSaved: false))
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
            do throws(StoreError) {
                return try await store.save(checkpoint: checkpoint, of: claimed.key, token: claimed.token)
            } catch {
                switch error {
                case .unavailable, .overloaded:
                    // It may have been written, and may be again: the token says whose it is.
                    if stopReason != nil { throw CancellationError() }
                case .stale, .cancelled:
                    throw CancellationError()
                default:
                    // What the database said is for the operator; the failure's message is for the job's user.
                    Self.logger.error(
                        "a checkpoint was not saved", metadata: ["job": "\(jobID)", "error": "\(error)"])
                    throw RunFailure(message: "the checkpoint could not be saved")
                }
            }
            try await runtime.sleep(for: backoff.next(random: runtime.random()))
        }
    }

    func softTimeout() async throws { try await softTimeoutMoment.wait() }

    func abandoned() async throws { try await abandonMoment.wait() }

    // MARK: What the node does with it

    /// Runs the handler. `onEnd` is called once, when the handler ends or is given up, with what that means; nil:
    /// nothing is to be written. It must not block. A run that was stopped before does not begin.
    func begin(_ runner: any JobRunner, onEnd: @escaping @Sendable (RunEnd?) -> Void) {
        // In one step: whoever gives the run up later finds somebody to tell.
        let mayBegin = state.withLock { state in
            guard state.supervision.stopReason == nil else { return false }
            state.onEnd = onEnd
            return true
        }
        guard mayBegin else {
            let error = RunEndError(
                error: JobError(
                    reason: JobError.reasonFailed, message: "the run was stopped before it began"))
            return onEnd(state.withLock { $0.supervision.end(.failure(error)) })
        }
        let task = runtime.start {
            let result = await Self.result(of: runner, self)
            self.complete { $0.supervision.end(result) }
        }
        let isStopping = state.withLock { state in
            state.task = task
            return state.supervision.stopReason != nil
        }
        if isStopping { task.cancel() }
    }

    private static func result(of runner: any JobRunner, _ run: ActiveRun) async -> Result<
        JobResult, RunEndError
    > {
        do {
            let result = try await runner.run(run)
            guard result.data.count <= JobLimits.resultBytesMax else {
                throw RunFailure(
                    message:
                        "a result of \(result.data.count) bytes is over the limit of \(JobLimits.resultBytesMax)",
                    isPermanent: true)
            }
            return .success(result)
        } catch let failure as RunFailure {
            if let details = failure.details { run.logFailure(details) }
            return .failure(
                RunEndError(
                    error: JobError(
                        reason: failure.isPermanent && failure.reason == JobError.reasonFailed
                            ? JobError.reasonPermanent : failure.reason, message: failure.message),
                    isPermanent: failure.isPermanent, retryAfter: failure.retryAfter))
        } catch {
            run.logFailure("\(error)")
            let message = "the handler threw an error of type \(type(of: error))"
            return .failure(RunEndError(error: JobError(reason: JobError.reasonFailed, message: message)))
        }
    }

    /// What the job's user is not told. Of a run that was stopped nobody asks how it failed.
    private func logFailure(_ details: String) {
        guard stopReason == nil else { return }
        Self.logger.warning("an attempt failed", metadata: metadata(["error": "\(details)"]))
    }

    func tick(_ now: ContinuousClock.Instant) {
        perform(state.withLock { $0.supervision.tick(now) })
    }

    /// Ends the run for a reason of ours; `grace` can only shorten what its handler has.
    func stop(_ reason: RunSupervision.StopReason, grace: Duration? = nil) {
        let action = state.withLock { state in
            if let grace { state.grace = min(state.grace, grace) }
            return state.supervision.stop(reason, now: runtime.now(), grace: grace)
        }
        perform(action)
    }

    private func perform(_ action: RunSupervision.Action?) {
        switch action {
        case nil: break
        case .softTimeout:
            softTimeoutMoment.come()
        case .stop:
            state.withLock(\.task)?.cancel()
        case .abandon:
            // First: what is left of the run should be over before the next attempt begins.
            abandonMoment.come()
            let error = RunEndError(
                error: JobError(reason: JobError.reasonFailed, message: "the handler did not stop"))
            complete { $0.supervision.end(.failure(error)) }
        }
    }

    /// The first end counts.
    private func complete(_ end: (State) -> RunEnd?) {
        let (onEnd, outcome) = state.withLock { state in
            (state.onEnd.take(), end(state))
        }
        onEnd?(outcome)
    }

    /// Nil once the handler may not be left alone any more.
    var stopReason: RunSupervision.StopReason? { state.withLock(\.supervision.stopReason) }

    /// What is not written yet, for a write that ends with `telemetryIsSaved`.
    func takeTelemetry() -> RunUpdate? {
        state.withLock { state in
            guard !state.isSavingTelemetry, state.progress != nil || !state.log.isEmpty else { return nil }
            state.isSavingTelemetry = true
            defer {
                state.progress = nil
                state.log = []
            }
            return RunUpdate(
                key: claimed.key, token: claimed.token, attempt: attempt, progress: state.progress,
                log: state.log)
        }
    }

    func telemetryIsSaved(_ isSaved: Bool, _ telemetry: RunUpdate) {
        let waiter = state.withLock { state in
            state.isSavingTelemetry = false
            if !isSaved {
                state.progress = state.progress ?? telemetry.progress
                state.log = Array((telemetry.log + state.log).suffix(Self.logLinesWaitingMax))
            }
            return state.telemetryWaiter.take()
        }
        waiter?.resume()
    }

    /// Whether it has said something that is not written yet.
    var hasTelemetry: Bool {
        state.withLock { $0.isSavingTelemetry || $0.progress != nil || !$0.log.isEmpty }
    }

    /// Writes the last words of a run, before its end is written: after it they would be dropped.
    func saveTelemetry() async {
        while hasTelemetry {
            if let telemetry = takeTelemetry() {
                // The end of the run is worth more than its last words: one try.
                try? await store.save([telemetry])
                telemetryIsSaved(true, telemetry)
            } else {
                // Another is just writing, and may leave some to be written after it.
                await withCheckedContinuation { continuation in
                    let isBusy = state.withLock { state in
                        if state.isSavingTelemetry { state.telemetryWaiter = continuation }
                        return state.isSavingTelemetry
                    }
                    if !isBusy { continuation.resume() }
                }
            }
        }
    }

    /// The handler's task, which may go on after it was given up.
    func waitForHandler() async { await state.withLock(\.task)?.value }
}

extension Backoff {
    /// Between attempts to write what a run has to keep, while the database is away.
    static let writing = Backoff(initial: .milliseconds(50), most: .seconds(1))
}
