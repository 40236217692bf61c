import JobModel
import JobEngine
import Synchronization
import Support

/// An attempt whose sayings are kept, and told to whoever waits for them.
final class FakeRun: Run {
    enum Saying: Sendable, Equatable {
        case progress(stage: String, fraction: Double?, message: String, done: Int64, total: Int64)
        case log(LogLine.Level, String)
        case checkpoint(String)
    }

    let jobID = JobID("0197a000-0000-7000-8000-000000000001")!
    let kind: String
    let userID = "user-1"
    let queue = "audio"
    let priority = 0
    let labels: [ExactText: ExactText] = [:]
    let attempt: Int
    var attemptsUsed: Int { attempt }
    let maxAttempts = 3
    let payload: [UInt8]
    let contentType: String
    let checkpoint: [UInt8]?
    let deadline = ContinuousClock.now + .seconds(60)
    let grace: Duration
    /// Thrown by `save(checkpoint:)`.
    let saveError: (any Error)?

    /// Everything said, in order; for one reader.
    let sayings: AsyncStream<Saying>
    private let says: AsyncStream<Saying>.Continuation
    private let kept = Mutex<[Saying]>([])
    private let softTimeouts: AsyncStream<Void>
    private let reachesSoftTimeout: AsyncStream<Void>.Continuation
    private let abandonments: AsyncStream<Void>
    private let isAbandoned: AsyncStream<Void>.Continuation

    init(
        kind: String = "test.command", attempt: Int = 1, payload: String = "{}",
        contentType: String = "application/json", checkpoint: String? = nil,
        grace: Duration = .seconds(10), saveError: (any Error)? = nil
    ) {
        self.kind = kind
        self.attempt = attempt
        self.payload = Array(payload.utf8)
        self.contentType = contentType
        self.checkpoint = checkpoint.map { Array($0.utf8) }
        self.grace = grace
        self.saveError = saveError
        (sayings, says) = AsyncStream.makeStream()
        (softTimeouts, reachesSoftTimeout) = AsyncStream.makeStream()
        (abandonments, isAbandoned) = AsyncStream.makeStream()
    }

    var said: [Saying] { kept.withLock { $0 } }

    var logLines: [String] {
        said.compactMap { if case .log(_, let message) = $0 { message } else { nil } }
    }

    /// Returns when the run has logged `line`.
    func waits(forLog line: String) async {
        for await saying in sayings {
            if case .log(_, line) = saying { return }
        }
    }

    func reachSoftTimeout() {
        reachesSoftTimeout.yield()
    }

    func abandon() {
        isAbandoned.yield()
    }

    func report(stage: String, fraction: Double?, message: String, done: Int64, total: Int64) {
        say(.progress(stage: stage, fraction: fraction, message: message, done: done, total: total))
    }

    func log(_ level: LogLine.Level, _ message: String) {
        say(.log(level, message))
    }

    func save(checkpoint: [UInt8]) async throws {
        if let saveError { throw saveError }
        say(.checkpoint(String(decoding: checkpoint, as: UTF8.self)))
    }

    func softTimeout() async throws {
        for await _ in softTimeouts { return }
        throw CancellationError()
    }

    func abandoned() async throws {
        for await _ in abandonments { return }
        throw CancellationError()
    }

    private func say(_ saying: Saying) {
        kept.withLock { $0.append(saying) }
        says.yield(saying)
    }
}
