internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Where JWTs are checked: on threads of their own, and no more of them at once than can be done soon.
///
/// Anybody can send what looks like a token, as often as he likes, and to check a signature is work. On the
/// pool that runs tasks it would delay the renewal of leases.
final class TokenChecks: Sendable {
    /// Whoever would wait behind so many is better told to come again. Those of one source are an eighth (`SourcePlaces`).
    static let checksMax = 1_000

    private typealias Check = @Sendable () -> Void

    private let turns = Mutex(CheckTurns<Check>(countMax: checksMax, runningMax: CheckThreads.count))

    /// Does it when its turn comes (`CheckTurns`).
    ///
    /// - Parameter body: waits for nothing, since it keeps its place from others for as long as it lasts.
    /// - Throws: what `body` does; `.tooManyChecks` where 1,000 wait or are under way, or 125 of the source.
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
                    turns.withLock { $0.ended(source) }
                    beginNext()
                    continuation.resume(returning: outcome)
                }
            }
            guard turns.withLock({ $0.add(check, of: source) }) else {
                return continuation.resume(returning: .failure(.tooManyChecks))
            }
            beginNext()
        }
        return try outcome.get()
    }

    private func beginNext() {
        let check = turns.withLock { $0.next() }
        check?()
    }
}

/// The threads of all checks. They last as long as the process.
final class CheckThreads: TaskExecutor {
    /// Half of the cores: the others are for the calls of those who are known already, and for jobs.
    static let count = max(1, System.coreCount / 2)
    static let shared = CheckThreads()

    private let threads = NIOThreadPool(numberOfThreads: count)

    private init() { threads.start() }

    /// Each check is made by one thread at a time, so that what waits here is bounded as they are.
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        threads.submit { [self] _ in job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
