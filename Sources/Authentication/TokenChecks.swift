internal import NIOCore
internal import Synchronization
internal import Threads

/// Runs the checks of JWTs on threads of their own, and limits how many are in flight.
///
/// Anyone can send what looks like a token, as often as they like, and checking a signature takes CPU time.
/// On the pool that runs tasks, it would delay the renewal of leases.
final class TokenChecks: Sendable {
    /// The most checks that wait or are in flight; one source may have an eighth of them (`SourcePermits`).
    /// Behind so many, a caller does better to try again later.
    static let checksMax = 1_000

    /// Half of the cores. The others are left to callers that are known already, and to jobs.
    static let threadCount = max(1, System.coreCount / 2)
    /// The threads of all checks of the process, started at first use. A failure lasts as long as the process.
    static let threads = Result { () throws(OSThreadError) in try ThreadExecutor(threadCount: threadCount) }

    private typealias Check = @Sendable () -> Void

    private let executor: ThreadExecutor
    private let scheduler = Mutex(CheckScheduler<Check>(countMax: checksMax, runningMax: threadCount))

    init() throws(OSThreadError) {
        executor = try Self.threads.get()
    }

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
                Task.detached(executorPreference: executor) { [self] in
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
