import Foundation
import GRPC
import JobEngine
import JobModel
import JobService
import SignalboxAPI
import SignalboxJobs
import Support
import Synchronization

/// The operations of a server in this process, once it is running.
final class RunningServer: Sendable {
    struct Operations: Sendable {
        let jobs: JobOperations
        let watches: WatchOperations
    }

    private enum State {
        /// The server has not started. Becomes `running` or `stopped`.
        case notStarted
        /// The server runs. Becomes `stopped`.
        case running(Operations)
        /// The server has stopped. Becomes `running` when it is started again.
        case stopped
    }

    /// The time for which a call waits for the server to start.
    private static let startTimeout = Duration.seconds(30)

    private let state = Mutex(State.notStarted)
    /// The server runs for the first time, or has failed to start.
    private let startIsOver = OneShotEvent()

    func starts(_ operations: Operations) {
        state.withLock { $0 = .running(operations) }
        startIsOver.fire()
    }

    func stops() {
        state.withLock { $0 = .stopped }
        startIsOver.fire()
    }

    /// The operations. Throws `unavailable` if the server has stopped or does not start in time.
    func operations() async throws -> Operations {
        if let operations = try current() { return operations }
        await withTaskGroup(of: Void.self) { [startIsOver] group in
            group.addTask { try? await startIsOver.wait() }
            group.addTask { try? await Task.sleep(for: Self.startTimeout) }
            await group.next()
            group.cancelAll()
        }
        try Task.checkCancellation()
        guard let operations = try current() else {
            throw SignalboxError(.unavailable, "the server has not started within \(Self.startTimeout)")
        }
        return operations
    }

    /// The operations; nil if the server has not started yet.
    private func current() throws(SignalboxError) -> Operations? {
        switch state.withLock({ $0 }) {
        case .notStarted: nil
        case .running(let operations): operations
        case .stopped: throw SignalboxError(.unavailable, "the server has stopped")
        }
    }
}

/// The jobs of a server in this process, without a connection. The caller may do everything.
struct EmbeddedJobs: JobQueue {
    /// The caller in the audit. Its source is that of the settings, because the program makes no call.
    private static let caller = Caller(name: "program", source: .settings, address: "", users: .all)

    let server: RunningServer

    private func run<R>(
        _ body: (RunningServer.Operations, Caller) async throws(ServiceError) -> R
    ) async throws -> R {
        let operations = try await server.operations()
        do {
            return try await body(operations, Self.caller)
        } catch {
            if Task.isCancelled { throw CancellationError() }
            throw SignalboxError(error)
        }
    }

    func enqueue(_ request: JobRequest) async throws -> EnqueuedJob {
        let draft = request.draft
        let enqueued = try await run { operations, caller throws(ServiceError) in
            try await operations.jobs.enqueue(draft, by: caller)
        }
        return EnqueuedJob(
            enqueued.job, enqueued.disposition, isNew: enqueued.isNew)
    }

    func enqueue(_ requests: [JobRequest]) async throws -> [EnqueuedID] {
        let drafts = requests.map(\.draft)
        return try await run { operations, caller throws(ServiceError) in
            try await operations.jobs.enqueueBatch(drafts, by: caller)
        }.map { EnqueuedID($0.id, sequence: $0.sequence, $0.disposition, isNew: $0.isNew) }
    }

    func job(_ id: UUID, includingPayload: Bool) async throws -> Job {
        let job = try await run { operations, caller throws(ServiceError) in
            try await operations.jobs.get(JobID(id), payload: includingPayload, for: caller)
        }
        return Job(job, hasPayload: includingPayload)
    }

    func page(
        of filter: SignalboxJobs.JobFilter, size: Int, after token: String?
    ) async throws -> Page<Job> {
        var query = JobListQuery()
        query.userID = ExactText(filter.userID ?? "")
        query.queue = ExactText(filter.queue ?? "")
        query.kinds = filter.kinds.map { ExactText($0) }
        query.states = Set(filter.states.map(\.ofDomain))
        query.labels = filter.labels.map { (key: ExactText($0.key), value: ExactText($0.value)) }
        query.createdFrom = filter.createdFrom.map { Timestamp($0) }
        query.createdTo = filter.createdTo.map { Timestamp($0) }
        query.page = PageRequest(size: size, token: ExactText(token ?? ""))
        let page = try await run { [query] operations, caller throws(ServiceError) in
            try await operations.jobs.list(query, for: caller)
        }
        return Page(page.items.map { Job($0) }, nextToken: ExactText(page.nextToken))
    }

    func attemptPage(of id: UUID, size: Int, after token: String?) async throws -> Page<Job.Attempt> {
        let page = try await run { operations, caller throws(ServiceError) in
            try await operations.jobs.attempts(
                of: JobID(id), PageRequest(size: size, token: ExactText(token ?? "")), for: caller)
        }
        return Page(page.items.map { Job.Attempt($0) }, nextToken: ExactText(page.nextToken))
    }

    func logPage(
        of id: UUID, afterLine line: Int, minLevel level: JobLogLevel?, size: Int, after token: String?
    ) async throws -> Page<Job.LogLine> {
        let page = try await run { operations, caller throws(ServiceError) in
            try await operations.jobs.logLines(
                of: JobID(id), after: Int64(line), from: level?.line,
                PageRequest(size: size, token: ExactText(token ?? "")), for: caller)
        }
        return Page(page.items.map { Job.LogLine($0) }, nextToken: ExactText(page.nextToken))
    }

    func cancel(_ id: UUID, note: String, expectedSequence sequence: Int?) async throws -> Job {
        let sequence = try expectedSequence(sequence)
        return Job(
            try await run { operations, caller throws(ServiceError) in
                try await operations.jobs.cancel(
                    JobID(id), note: ExactText(note), expectedSequence: sequence, by: caller)
            })
    }

    func retry(_ id: UUID, expectedSequence sequence: Int?) async throws -> Job {
        let sequence = try expectedSequence(sequence)
        return Job(
            try await run { operations, caller throws(ServiceError) in
                try await operations.jobs.retry(
                    JobID(id), expectedSequence: sequence, by: caller)
            })
    }

    func watch(_ subject: JobWatch) -> JobUpdates {
        JobUpdates { [server] in
            let watch = EmbeddedWatch(subject, of: server, by: Self.caller)
            return { try await watch.next() }
        }
    }
}

extension SignalboxError {
    init(_ error: ServiceError) {
        let status = StatusMapping.status(for: error)
        var quota: String?
        var job: JobID?
        switch error {
        case .quotaExceeded(_, let user, _), .tooManyQueues(let user): quota = "user:\(user)"
        case .notFound(let id), .conflict(let id, _, _), .outOfRange(let id, _, _), .wrongState(let id, _),
            .sequenceMismatch(let id, _, _):
            job = id
        case .invalid, .pageTokenInvalid, .maskInvalid, .payloadTooLarge, .userNotAllowed, .unknownKind,
            .queueNotFound,
            .readerTooSlow, .shuttingDown, .overloaded, .unavailable, .outcomeUnknown, .cancelled, .broken:
            break
        }
        self.init(
            Code(rawValue: status.code.rawValue) ?? .unknown, status.message,
            reason: error.reason.rawValue, metadata: error.metadata,
            violations: error.fieldViolations.map {
                Violation(field: $0.field, reason: $0.reason.rawValue, description: $0.description)
            },
            retryDelay: error.retryDelay, quota: quota, jobID: job?.uuid)
    }
}
