internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Runs the checks of JWTs on threads of their own, and limits how many are in flight.
///
/// Anyone can send what looks like a token, as often as they like, and checking a signature takes CPU time.
/// On the pool that runs tasks, it would delay the renewal of leases.
final class TokenChecks: Sendable {
    /// The most checks that wait or are in flight; one source may have an eighth of them (`SourcePermits`).
    /// Behind so many, a caller does better to try again later.
    static let checksMax = 1_000

    private typealias Check = @Sendable () -> Void

    private let scheduler = Mutex(CheckScheduler<Check>(countMax: checksMax, runningMax: CheckThreads.count))

    /// Runs a check when `CheckScheduler` selects it.
    ///
    /// - Parameter body: the check. It must not wait, because it keeps a thread's capacity for as long as it
    ///   lasts.
    /// - Throws: the error of `body`; `.tooManyChecks` if 1,000 checks wait or are in flight, or 125 of the
    ///   source.
    func run<Value: Sendable>(
        for source: String, _ body: @escaping @Sendable () async throws(AuthenticationError) -> Value
    ) async throws(AuthenticationError) -> Value {
        typealias Outcome = Result<Value, AuthenticationError>
        let outcome = await withCheckedContinuation { (continuation: CheckedContinuation<Outcome, Never>) in
            let check: Check = { [self] in
                Task.detached(executorPreference: CheckThreads.shared) { [self] in
                    let outcome: Outcome
                    do throws(AuthenticationError) { outcome = .success(try await body()) } catch {
                        outcome = .failure(error)
                    }
                    scheduler.withLock { $0.ended(source) }
                    beginNext()
                    continuation.resume(returning: outcome)
                }
            }
            guard scheduler.withLock({ $0.add(check, of: source) }) else {
                return continuation.resume(returning: .failure(.tooManyChecks))
            }
            beginNext()
        }
        return try outcome.get()
    }

    private func beginNext() {
        let check = scheduler.withLock { $0.next() }
        check?()
    }
}

/// The threads of all checks. They live as long as the process.
final class CheckThreads: TaskExecutor {
    /// Half of the cores. The others are left to callers that are known already, and to jobs.
    static let count = max(1, System.coreCount / 2)
    static let shared = CheckThreads()

    private let threads = NIOThreadPool(numberOfThreads: count)

    private init() { threads.start() }

    /// Queues a part of a check. Each check has at most one part queued at a time, so the bound of the checks
    /// bounds this queue.
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        threads.submit { [self] _ in job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
