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
/// If the server cannot resume at the token, it begins with snapshots, or refuses the token. The token is dropped then. A
/// watch of named jobs connects once more and resumes by `after_sequence`, which the server ignores beside a token. In a
/// watch of a user or queue, the snapshots of jobs that have changed stand for the events that were missed, and
/// `unaccounted` are the jobs that are not live any more.
package struct WatchSession: Sendable {
    package enum Subject: Sendable, Equatable {
        case jobs([JobID])
        /// Empty text: any. Never ends by itself.
        case all(userID: String, queue: String)
    }

    /// The number of jobs whose sequences a watch of a user or queue remembers. Events of further jobs may be given again
    /// after a reconnection.
    static let knownMax = 100_000
    /// A watch of a user or queue remembers at least so many of the jobs that have become final last, and at most twice as
    /// many: after a reconnection the server repeats some events from before the token too.
    static let endedMin = 10_000
    /// The bounds of the time between two heartbeats, whatever the server says.
    static let heartbeatIntervals = Duration.milliseconds(10) ... .seconds(3600)

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
    /// The jobs of a user or queue that have become final, in two generations of up to `endedMin`.
    private var ended: Set<JobID> = []
    private var endedBefore: Set<JobID> = []
    private var resumeToken: ExactText = ""
    /// The jobs of a user or queue that were live when last heard of, and were not among this connection's snapshots.
    private var missing: Set<JobID> = []
    /// The token that came with the snapshots. It is used once the missing jobs are looked up, because a watch that resumes
    /// there does not find them again.
    private var tokenAfterMissing: ExactText?
    private var connection = 0
    private var isComplete = false
    private var isResumed = false
    /// Whether this connection is of no use, because the server did not resume it: its messages are to be ignored, and the
    /// next request asks for what is missing.
    package private(set) var mustReconnect = false
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

    /// The end of a connection that `mustReconnect`.
    package static let notResumed = Status(
        .unavailable, "the server cannot resume the watch at its token: it resumes after the last events")

    /// For a new connection.
    package mutating func request() -> WatchRequest {
        connection += 1
        isResumed = false
        mustReconnect = false
        missing = []
        tokenAfterMissing = nil
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
        guard isWanted(response.event) else { return nil }
        let event = receive(response.event)
        if !response.resumeToken.isEmpty, !mustReconnect {
            if missing.isEmpty {
                resumeToken = response.resumeToken
            } else {
                tokenAfterMissing = response.resumeToken
            }
        }
        return event
    }

    /// Drops the resume token if the server has refused it, and nothing else of the request: the next request is made
    /// without it. Returns whether it was so.
    package mutating func dropToken(refusedBy status: Status) -> Bool {
        guard !resumeToken.isEmpty, status.code == .invalidArgument,
            let fields = status.decodedDetails?.badRequest.map(\.field),
            !fields.isEmpty, fields.allSatisfy({ $0 == "resume_token" })
        else { return false }
        resumeToken = ""
        return true
    }

    /// Whether the message is about a job of the watch, or about none.
    private func isWanted(_ event: WatchEvent) -> Bool {
        guard case .jobs = subject else { return true }
        return switch event {
        case .snapshot(let job): known[job.id] != nil
        case .lifecycle(let change): known[change.jobID] != nil
        case .progress(let id, _, _), .log(let id, _), .removed(let id): known[id] != nil
        case .opened, .snapshotsComplete, .heartbeat, .other: true
        }
    }

    private mutating func receive(_ event: WatchEvent) -> WatchEvent? {
        switch event {
        case .opened(let resumed, let interval):
            isResumed = resumed
            let bounds = Self.heartbeatIntervals
            heartbeatInterval =
                interval > .zero ? min(max(interval, bounds.lowerBound), bounds.upperBound) : nil
            if !resumed, !resumeToken.isEmpty {
                resumeToken = ""
                if case .jobs = subject {
                    mustReconnect = known.values.contains { $0.sequence > 0 || $0.logNumber > 0 }
                }
            }
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
            if case .all = subject, !isResumed {
                missing = Set(known.filter { $0.value.connection != connection && !isOver($0.key) }.keys)
            }
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
        case .all: Array(missing)
        }
    }

    /// The update for a job that was looked up. The record is nil if the job does not exist any more.
    package mutating func account(for id: JobID, _ job: JobRecord?) -> WatchEvent? {
        if missing.remove(id) != nil, missing.isEmpty, let token = tokenAfterMissing {
            resumeToken = token
            tokenAfterMissing = nil
        }
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

    /// Whether a named job ended without success, or was removed before its end was known. False in a watch of a user or
    /// queue.
    package var hasFailures: Bool {
        guard case .jobs = subject else { return false }
        return known.values.contains { $0.isRemoved || $0.state == .failed || $0.state == .cancelled }
    }

    private mutating func note(_ id: JobID, _ sequence: Int64, _ state: JobModel.JobState?) {
        if case .all = subject {
            guard known[id] != nil || known.count < Self.knownMax else { return }
        }
        var entry = known[id] ?? Known(sequence: 0)
        entry.sequence = sequence
        entry.state = state ?? entry.state
        entry.connection = connection
        known[id] = entry
        if case .all = subject, state?.isFinal == true { remember(ended: id) }
    }

    private mutating func remember(ended id: JobID) {
        ended.insert(id)
        guard ended.count >= Self.endedMin else { return }
        for id in endedBefore.subtracting(ended) where isOver(id) { known[id] = nil }
        endedBefore = ended
        ended = []
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
