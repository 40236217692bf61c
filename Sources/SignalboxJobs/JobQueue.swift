public import Foundation

/// The jobs of a Signalbox service: the remote client and a server in the same process are both one.
///
/// Every method throws a `SignalboxError`, or `CancellationError` when its task is cancelled.
public protocol JobQueue: Sendable {
    /// Enqueues one job. When this returns, the job is committed.
    ///
    /// Throws `alreadyExists` where the id or the key belongs to a job with other content.
    func enqueue(_ request: JobRequest) async throws -> EnqueuedJob

    /// Enqueues up to 10,000 jobs of 4 MiB together, all or none. Their order is kept.
    ///
    /// Throws `invalidArgument` with the index and the field of what is wrong.
    func enqueue(_ requests: [JobRequest]) async throws -> [EnqueuedID]

    /// A job with its attempts, log, progress and result. Throws `notFound` where there is none.
    func job(_ id: UUID, includingPayload: Bool) async throws -> Job

    /// One page of the jobs that match, newest first. It may be short, even empty, while there are more.
    ///
    /// - Parameters:
    ///   - size: at most 1,000 jobs. 0: 50.
    ///   - token: the `nextToken` of the page before. Nil: the first page.
    func page(of filter: JobFilter, size: Int, after token: String?) async throws -> Page<Job>

    /// One page of a job's attempts, oldest first.
    ///
    /// - Parameters:
    ///   - size: at most 500 attempts. 0: 50.
    ///   - token: the `nextToken` of the page before. Nil: the first page.
    func attemptPage(of id: UUID, size: Int, after token: String?) async throws -> Page<Job.Attempt>

    /// One page of the lines of a job's log that are kept, oldest first.
    ///
    /// - Parameters:
    ///   - line: only lines with a higher number.
    ///   - level: only lines of this level or a higher one. Nil: every line.
    ///   - size: at most 500 lines. 0: 50.
    ///   - token: the `nextToken` of the page before. Nil: the first page.
    func logPage(
        of id: UUID, afterLine line: Int, minLevel level: JobLogLevel?, size: Int, after token: String?
    ) async throws -> Page<Job.LogLine>

    /// Cancels a job, and returns it as it is now. A pending job is cancelled at once. The handler of a running job is asked
    /// to stop; watch the job to see when it has ended. A final job is returned unchanged.
    ///
    /// - Parameters:
    ///   - note: a message for people, which becomes that of the job's failure; at most 1,024 bytes.
    ///   - sequence: the sequence that the job must have, 1 or more; if it has another one, nothing is done, and `aborted`
    ///     is thrown. Nil: any.
    func cancel(_ id: UUID, note: String, expectedSequence sequence: Int?) async throws -> Job

    /// Returns a failed or cancelled job to its queue, with a new budget of attempts. Throws `failedPrecondition` in other
    /// states.
    ///
    /// - Parameter sequence: as for `cancel`.
    func retry(_ id: UUID, expectedSequence sequence: Int?) async throws -> Job

    /// The changes of jobs, from now on or from where an earlier watch ended. The watch begins when the first element is
    /// asked for; each iterator is a watch of its own.
    func watch(_ subject: JobWatch) -> JobUpdates
}

/// The effect of a call on a job that was to be enqueued.
public enum EnqueueDisposition: Sendable, Hashable {
    /// The job is new.
    case created
    /// A job with the same id or idempotency key and the same content existed.
    case sameRequest
}

/// A job that was enqueued.
public struct EnqueuedJob: Sendable, Hashable {
    /// The new job, or the one with the same id or key and content that existed.
    public var job: Job
    /// The effect of the call. Nil if this version does not know it.
    public var disposition: EnqueueDisposition?
    /// Whether the job is new. False if it existed already.
    public var isNew: Bool
}

/// A job that was enqueued with others.
public struct EnqueuedID: Sendable, Hashable {
    /// The job's id.
    public var id: UUID
    /// The number of the job's last event; 1 for a new job. A watch from here on misses nothing.
    public var sequence: Int
    /// The effect of the call on this job. Nil if this version does not know it.
    public var disposition: EnqueueDisposition?
    /// Whether the job is new. False if it existed already.
    public var isNew: Bool
}

/// A part of a list.
public struct Page<Element: Sendable & Hashable>: Sendable, Hashable {
    /// The elements. Jobs come without attempts, log, payload and result.
    public var elements: [Element]
    /// Asks for the next page, with the same filter and by the same caller. Nil: this is the last page.
    public var nextToken: String?
}

/// The jobs to watch.
public struct JobWatch: Sendable, Hashable {
    package enum Subject: Sendable, Hashable {
        case jobs([UUID])
        case all(userID: String?, queue: String?)
    }

    package var subject: Subject
    /// The sequence of the last event that is known of each job: the watch gives the events after it. A job that is missing
    /// here begins with a snapshot. Only for jobs that are named.
    public var sequences: [UUID: Int] = [:]
    /// Whether the watch gives the lines of the jobs' logs too. Only for jobs that are named.
    public var includesLog = false

    /// Named jobs, 1 to 1,000, until each of them is final.
    public static func jobs(_ ids: [UUID]) -> JobWatch { JobWatch(subject: .jobs(ids)) }
    /// One job, until it is final.
    public static func job(_ id: UUID) -> JobWatch { .jobs([id]) }
    /// All jobs of a user, or those of them in one queue, until the watch is dropped.
    public static func user(_ userID: String, queue: String? = nil) -> JobWatch {
        JobWatch(subject: .all(userID: userID, queue: queue))
    }
    /// All jobs in a queue, until the watch is dropped.
    public static func queue(_ queue: String) -> JobWatch {
        JobWatch(subject: .all(userID: nil, queue: queue))
    }
}

/// The updates of a watch. One task reads an iterator; to drop the iterator ends the watch.
public struct JobUpdates: AsyncSequence, Sendable {
    /// Gives one update after the other; nil at the end.
    package typealias Source = @Sendable () async throws -> JobUpdate?

    private let makeSource: @Sendable () -> Source

    package init(_ makeSource: @escaping @Sendable () -> Source) {
        self.makeSource = makeSource
    }

    /// Begins a watch of its own.
    public func makeAsyncIterator() -> Iterator { Iterator(source: makeSource()) }

    /// One watch.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let source: Source

        /// Nil when every named job is final. Throws errors that a new connection cannot resolve.
        public mutating func next() async throws -> JobUpdate? { try await source() }
    }
}

/// Every element of a list. Pages are fetched as they are needed.
public struct PagedList<Element: Sendable & Hashable>: AsyncSequence, Sendable {
    fileprivate typealias Fetch = @Sendable (_ token: String?) async throws -> Page<Element>

    fileprivate let fetch: Fetch

    /// Begins with the first element.
    public func makeAsyncIterator() -> Iterator { Iterator(fetch: fetch) }

    /// One pass over the list.
    public struct Iterator: AsyncIteratorProtocol {
        private let fetch: Fetch
        private var elements: ArraySlice<Element> = []
        private var token: String?
        private var isLastPage = false

        fileprivate init(fetch: @escaping Fetch) {
            self.fetch = fetch
        }

        /// Nil after the last element.
        public mutating func next() async throws -> Element? {
            while elements.isEmpty, !isLastPage {
                let page = try await fetch(token)
                // Such a list would never end.
                guard page.nextToken == nil || page.nextToken != token else {
                    throw SignalboxError(
                        .internalError, "the server returned the token of the same page again")
                }
                elements = page.elements[...]
                token = page.nextToken
                isLastPage = token == nil
            }
            return elements.popFirst()
        }
    }
}

extension JobQueue {
    /// Enqueues a job whose payload is `input` as JSON.
    public func enqueue(
        _ kind: String, userID: String, input: some Encodable & Sendable
    ) async throws -> EnqueuedJob {
        try await enqueue(JobRequest(kind: kind, userID: userID, input: input))
    }

    /// A job with its attempts, log, progress and result, without its payload. Throws `notFound` where there is none.
    public func job(_ id: UUID) async throws -> Job {
        try await job(id, includingPayload: false)
    }

    /// Every job that matches, newest first.
    ///
    /// - Parameter pageSize: how many jobs one call fetches, at most 1,000.
    public func jobs(_ filter: JobFilter = JobFilter(), pageSize: Int = 50) -> PagedList<Job> {
        PagedList { try await page(of: filter, size: pageSize, after: $0) }
    }

    /// Every attempt of a job, oldest first.
    ///
    /// - Parameter pageSize: how many attempts one call fetches, at most 500.
    public func attempts(of id: UUID, pageSize: Int = 50) -> PagedList<Job.Attempt> {
        PagedList { try await attemptPage(of: id, size: pageSize, after: $0) }
    }

    /// The lines of a job's log that are kept, oldest first.
    ///
    /// - Parameters:
    ///   - line: only lines with a higher number.
    ///   - level: only lines of this level or a higher one. Nil: every line.
    ///   - pageSize: how many lines one call fetches, at most 500.
    public func logLines(
        of id: UUID, afterLine line: Int = 0, minLevel level: JobLogLevel? = nil, pageSize: Int = 50
    ) -> PagedList<Job.LogLine> {
        PagedList { try await logPage(of: id, afterLine: line, minLevel: level, size: pageSize, after: $0) }
    }

    /// Cancels a job, whatever its sequence is.
    public func cancel(_ id: UUID, note: String = "") async throws -> Job {
        try await cancel(id, note: note, expectedSequence: nil)
    }

    /// Returns a failed or cancelled job to its queue, whatever its sequence is.
    public func retry(_ id: UUID) async throws -> Job {
        try await retry(id, expectedSequence: nil)
    }

    /// Waits until a job is final, and returns it, however it ended.
    ///
    /// - Parameter timeout: after this time `deadlineExceeded` is thrown. Nil: it waits as long as it takes.
    public func finalJob(_ id: UUID, timeout: Duration? = nil) async throws -> Job {
        guard let timeout else { return try await waitUntilFinal(id) }
        return try await withThrowingTaskGroup(of: Job?.self) { group in
            group.addTask { try await waitUntilFinal(id) }
            group.addTask {
                try await Task.sleep(for: timeout)
                return nil
            }
            defer { group.cancelAll() }
            guard let first = try await group.next(), let job = first else {
                throw SignalboxError(.deadlineExceeded, "the job was not final within \(timeout)", jobID: id)
            }
            return job
        }
    }

    private func waitUntilFinal(_ id: UUID) async throws -> Job {
        while true {
            for try await _ in watch(.job(id)) {}
            let job = try await job(id)
            // A retry may have returned it to its queue in between.
            if job.state.isFinal { return job }
        }
    }

    /// Waits for a job's result.
    ///
    /// Throws a `JobUnsuccessful` when the job failed or was cancelled, and `deadlineExceeded` after `timeout`.
    public func result(of id: UUID, timeout: Duration? = nil) async throws -> JobPayload {
        let job = try await finalJob(id, timeout: timeout)
        guard job.state == .succeeded else { throw JobUnsuccessful(job: job) }
        return job.result ?? JobPayload()
    }

    /// Waits for a job's result and reads it as JSON.
    ///
    /// Throws like `result(of:timeout:)`, and a `DecodingError` where the result is not such a value.
    public func result<Value: Decodable & Sendable>(
        of id: UUID, as type: Value.Type, timeout: Duration? = nil
    ) async throws -> Value {
        try await result(of: id, timeout: timeout).decoded()
    }
}
