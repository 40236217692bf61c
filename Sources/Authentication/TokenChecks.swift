internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// Where JWTs are checked: on threads of their own, and no more of them at once than can be done soon.
///
/// Anybody can send what looks like a token, as often as he likes, and to check a signature is work. On the
/// pool that runs tasks it would delay the renewal of leases.
final class TokenChecks: Sendable {
    /// Whoever would wait behind so many is better told to come again.
    static let checksMax = 1_000

    /// Those that wait and those that are under way.
    private let checks = Mutex(0)

    /// Does it when its turn comes, in the order of arrival.
    ///
    /// - Parameter body: waits for nothing, since it keeps its place from others for as long as it lasts.
    /// - Throws: what `body` does; `.tooManyChecks` where 1,000 wait or are under way.
    func run<Value: Sendable>(
        _ body: @escaping @Sendable () async throws(AuthenticationError) -> Value
    ) async throws(AuthenticationError) -> Value {
        let hasPlace = checks.withLock { checks in
            guard checks < Self.checksMax else { return false }
            checks += 1
            return true
        }
        guard hasPlace else { throw .tooManyChecks }
        let check = Task.detached(executorPreference: CheckThreads.shared) {
            [self] () -> Result<Value, AuthenticationError> in
            defer { checks.withLock { $0 -= 1 } }
            do throws(AuthenticationError) { return .success(try await body()) } catch {
                return .failure(error)
            }
        }
        return try await check.value.get()
    }
}

/// The threads of all checks. They last as long as the process.
final class CheckThreads: TaskExecutor {
    /// Half of the cores: the others are for the calls of those who are known already, and for jobs.
    static let count = max(1, System.coreCount / 2)
    static let shared = CheckThreads()

    private let threads = NIOThreadPool(numberOfThreads: count)

    private init() { threads.start() }

    /// Of each check there is one at a time, so that what waits here is bounded as they are.
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        threads.submit { [self] _ in job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
