package import GRPC
package import JobModel
package import SignalboxProto
import Support

/// One watch over all its connections: what its user knows already, and where to resume. Pure.
///
///     request() ──▶ stream ──▶ receive(response) ──▶ what is new, for the user
///        ▲             │ ended
///        └── again ────┴──▶ isOver: every named job is final or removed
///
/// A new connection resumes at the latest resume token, with the same jobs or filter. What the server repeats from there is
/// left out by the sequences of the jobs. Before the first token, named jobs resume by `after_sequence`.
///
/// If the server cannot resume at the token, it begins with snapshots. In a watch of a user or queue, the snapshots of jobs
/// that have changed stand for the events that were missed, and `unaccounted` are the jobs that are not live any more.
package struct WatchSession: Sendable {
    package enum Subject: Sendable, Equatable {
        case jobs([JobID])
        /// Empty text: any. Never ends by itself.
        case all(userID: String, queue: String)
    }

    /// The number of jobs whose sequences a watch of a user or queue remembers. Events of further jobs may be given again
    /// after a reconnection.
    static let knownMax = 100_000

    private struct Known {
        var sequence: Int64
        /// Nil: nothing was received about it yet.
        var state: JobModel.JobState?
        var logNumber: Int64 = 0
        /// The connection that last said something about it.
        var connection = 0
        var isRemoved = false
    }

    package let subject: Subject
    private let includesLog: Bool
    private var known: [JobID: Known] = [:]
    /// The jobs of a user or queue that have become final since the latest token: events of these may be repeated.
    private var ended: [JobID] = []
    private var resumeToken: ExactText = ""
    private var connection = 0
    private var isComplete = false
    private var isResumed = false
    /// The time between two heartbeats on this connection. Nil: the server has not said it.
    package private(set) var heartbeatInterval: Duration?

    /// - Parameters:
    ///   - sequence: of the last event that is known of each named job.
    ///   - sequences: those of single jobs, where they are others.
    package init(
        _ subject: Subject, after sequence: Int64 = 0, sequences: [JobID: Int64] = [:],
        includesLog: Bool = false
    ) {
        self.subject = subject
        self.includesLog = includesLog
        if case .jobs(let ids) = subject {
            for id in ids { known[id] = Known(sequence: sequences[id] ?? sequence) }
        }
    }

    /// For a new connection.
    package mutating func request() -> WatchRequest {
        connection += 1
        isResumed = false
        heartbeatInterval = nil
        switch subject {
        case .jobs(let ids):
            // A token is good for the same jobs only. Without one, jobs that are over are left out: nothing more follows of
            // them.
            let wanted = resumeToken.isEmpty ? ids.filter { !isOver($0) } : ids
            return WatchRequest(
                jobs: wanted.map {
                    WatchRequest.Watched(
                        jobID: "\($0)", afterSequence: known[$0]?.sequence ?? 0,
                        afterLogLine: known[$0]?.logNumber ?? 0)
                }, includeLog: includesLog, resumeToken: resumeToken)
        case .all(let userID, let queue):
            return WatchRequest(
                filter: JobFilterMessage(userID: ExactText(userID), queue: ExactText(queue)),
                resumeToken: resumeToken)
        }
    }

    /// The new part of a message. Nil: it has none.
    package mutating func receive(_ response: WatchResponse) -> WatchEvent? {
        let event = receive(response.event)
        if !response.resumeToken.isEmpty {
            resumeToken = response.resumeToken
            // Events from before the token are not repeated.
            for id in ended where known[id]?.state?.isFinal == true { known[id] = nil }
            ended = []
        }
        return event
    }

    private mutating func receive(_ event: WatchEvent) -> WatchEvent? {
        switch event {
        case .opened(let resumed, let interval):
            isResumed = resumed
            heartbeatInterval = interval > .zero ? interval : nil
            return nil
        case .snapshot(let job):
            // The last event of a named job follows its snapshot, and has the result.
            if case .jobs = subject, job.state.isFinal {
                let before = known[job.id]?.sequence ?? 0
                note(job.id, max(before, job.sequence - 1), nil)
                return job.sequence > before ? event : nil
            }
            return take(job)
        case .lifecycle(let change):
            guard change.sequence > known[change.jobID]?.sequence ?? 0 else {
                touch(change.jobID)
                return nil
            }
            note(change.jobID, change.sequence, change.state)
            return event
        case .progress(let id, _, _):
            touch(id)
            return event
        case .log(let id, let lines):
            let last = known[id]?.logNumber ?? 0
            let fresh = lines.filter { $0.number > last }
            guard let newest = fresh.last else { return nil }
            known[id]?.logNumber = newest.number
            return .log(id, fresh)
        case .snapshotsComplete:
            guard !isComplete else { return nil }
            isComplete = true
            return event
        case .removed(let id):
            return remove(id)
        case .heartbeat, .other:
            return nil
        }
    }

    /// The update for the present state of a job when no event follows.
    private mutating func take(_ job: JobRecord) -> WatchEvent? {
        let before = known[job.id]?.sequence ?? 0
        note(job.id, max(before, job.sequence), before > job.sequence ? nil : job.state)
        // The latest progress may be new although the sequence is known.
        if job.sequence == before, job.state == .running, let progress = job.progress {
            return .progress(job.id, attempt: job.attempt, progress)
        }
        return job.sequence > before ? .snapshot(job) : nil
    }

    /// The update for a job that does not exist. Nil for a named job of which the user knows already that it is over.
    private mutating func remove(_ id: JobID) -> WatchEvent? {
        guard case .jobs = subject else {
            known[id] = nil
            return .removed(id)
        }
        guard !isOver(id) else { return nil }
        known[id]?.isRemoved = true
        return .removed(id)
    }

    /// Jobs to be looked up, once the snapshots of a connection that was not resumed have come (a user's or queue's watch:
    /// live when last heard of, and not among them) or the stream has ended with OK (named jobs: final, but after a sequence
    /// that was known, so that nothing was sent).
    package func unaccounted() -> [JobID] {
        switch subject {
        case .jobs(let ids): ids.filter { !isOver($0) }
        case .all where isResumed: []
        case .all: known.filter { $0.value.connection != connection && !isOver($0.key) }.map(\.key)
        }
    }

    /// The update for a job that was looked up. The record is nil if the job does not exist any more.
    package mutating func account(for id: JobID, _ job: JobRecord?) -> WatchEvent? {
        guard let job else { return remove(id) }
        return take(job)
    }

    /// Whether every named job is final or removed.
    package var isOver: Bool {
        guard case .jobs(let ids) = subject else { return false }
        return ids.allSatisfy(isOver)
    }

    private func isOver(_ id: JobID) -> Bool {
        known[id].map { $0.isRemoved || $0.state?.isFinal == true } ?? false
    }

    /// Whether a named job ended without success, or was removed before its end was known.
    package var hasFailures: Bool {
        known.values.contains { $0.isRemoved || $0.state == .failed || $0.state == .cancelled }
    }

    private mutating func note(_ id: JobID, _ sequence: Int64, _ state: JobModel.JobState?) {
        if case .all = subject {
            if state?.isFinal == true {
                // Without a token nothing is repeated.
                guard !resumeToken.isEmpty, ended.count < Self.knownMax else {
                    known[id] = nil
                    return
                }
                ended.append(id)
            }
            guard known[id] != nil || known.count < Self.knownMax else { return }
        }
        var entry = known[id] ?? Known(sequence: 0)
        entry.sequence = sequence
        entry.state = state ?? entry.state
        entry.connection = connection
        known[id] = entry
    }

    private mutating func touch(_ id: JobID) {
        known[id]?.connection = connection
    }
}

extension Status {
    /// Whether the same request would end the same way.
    package var isPermanent: Bool {
        switch code {
        case .invalidArgument, .notFound, .outOfRange, .failedPrecondition, .permissionDenied,
            .unauthenticated, .unimplemented:
            true
        case .ok, .cancelled, .unknown, .deadlineExceeded, .alreadyExists, .resourceExhausted, .aborted,
            .internalError, .unavailable, .dataLoss:
            false
        }
    }
}
