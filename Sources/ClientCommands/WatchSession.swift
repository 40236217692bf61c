import JobModel
import SignalboxProto
import GRPC
import Support

/// One watch over all its connections: what was told already, and where to go on. Pure.
///
///     request() ──▶ stream ──▶ receive(message) ──▶ what is new, for the user
///        ▲             │ ended
///        └── again ────┴──▶ isOver: every named job is final
///
/// Named jobs go on by `after_sequence`, so nothing is left out or told twice. A watch of a user or queue
/// cannot name where it was: there, snapshots of jobs that have moved on meanwhile stand for what was
/// missed, and `unaccounted` are those that are not live any more.
struct WatchSession: Sendable {
    enum Subject: Sendable, Equatable {
        case jobs([JobID])
        /// Empty text: any. Never ends by itself.
        case all(userID: String, queue: String)
    }

    /// Of a user's or queue's watch: live jobs whose sequence is remembered. Of others events may be told
    /// again after a reconnection.
    static let knownMax = 100_000

    private struct Known {
        var sequence: Int64
        /// Nil: not heard of yet.
        var state: JobState?
        var logNumber: Int64 = 0
        /// The connection on which it was last heard of.
        var connection = 0
    }

    let subject: Subject
    let includesLog: Bool
    private var known: [JobID: Known] = [:]
    private var connection = 0
    private var isComplete = false

    init(_ subject: Subject, after sequence: Int64 = 0, includesLog: Bool = false) {
        self.subject = subject
        self.includesLog = includesLog
        if case .jobs(let ids) = subject {
            for id in ids { known[id] = Known(sequence: sequence) }
        }
    }

    /// For a new connection.
    mutating func request() -> WatchRequest {
        connection += 1
        switch subject {
        case .jobs(let ids):
            // Of what was told as final nothing more will come, and it may be removed by now: named again it would
            // end the watch of all the others with NOT_FOUND.
            let open = ids.filter { !isFinal($0) }
            return WatchRequest(
                jobs: open.map {
                    WatchRequest.Watched(jobID: "\($0)", afterSequence: known[$0]?.sequence ?? 0)
                }, includeLog: includesLog)
        case .all(let userID, let queue):
            return WatchRequest(userID: ExactText(userID), queue: ExactText(queue))
        }
    }

    /// What of a message is new; nil: nothing.
    mutating func receive(_ message: WatchResponse) -> WatchResponse? {
        switch message {
        case .snapshot(let job):
            // The last event of a named job follows its snapshot, and has the result.
            if case .jobs = subject, job.state.isFinal {
                let before = known[job.id]?.sequence ?? 0
                note(job.id, max(before, job.sequence - 1), nil)
                return job.sequence > before ? message : nil
            }
            return take(job)
        case .lifecycle(let event):
            guard event.sequence > known[event.jobID]?.sequence ?? 0 else {
                touch(event.jobID)
                return nil
            }
            note(event.jobID, event.sequence, event.state)
            return message
        case .progress(let id, _, _):
            touch(id)
            return message
        case .log(let id, let lines):
            let last = known[id]?.logNumber ?? 0
            let fresh = lines.filter { $0.number > last }
            guard let newest = fresh.last else { return nil }
            known[id]?.logNumber = newest.number
            return .log(id, fresh)
        case .heartbeat(_, let snapshotComplete):
            guard snapshotComplete, !isComplete else { return nil }
            isComplete = true
            return message
        case .other:
            return nil
        }
    }

    /// How a job is, with nothing to follow for this state.
    private mutating func take(_ job: JobRecord) -> WatchResponse? {
        let before = known[job.id]?.sequence ?? 0
        note(job.id, max(before, job.sequence), before > job.sequence ? nil : job.state)
        // With a sequence that was told the latest progress may still be news.
        if job.sequence == before, job.state == .running, let progress = job.progress {
            return .progress(job.id, attempt: job.attempt, progress)
        }
        return job.sequence > before ? .snapshot(job) : nil
    }

    /// Jobs to be looked up, once the snapshots of a new connection have come (a user's or queue's watch:
    /// live when last heard of, and not among them) or the stream has ended with OK (named jobs: final, but
    /// after a sequence that was known, so that nothing was sent).
    func unaccounted() -> [JobID] {
        switch subject {
        case .jobs(let ids): ids.filter { !isFinal($0) }
        case .all: known.filter { $0.value.connection != connection }.map(\.key)
        }
    }

    /// What was looked up; nil: no such job any more.
    mutating func account(for id: JobID, _ job: JobRecord?) -> WatchResponse? {
        guard let job else {
            known[id] = nil
            return nil
        }
        return take(job)
    }

    /// Every named job is final.
    var isOver: Bool {
        guard case .jobs(let ids) = subject else { return false }
        return ids.allSatisfy(isFinal)
    }

    private func isFinal(_ id: JobID) -> Bool {
        known[id]?.state?.isFinal == true
    }

    /// Whether a named job ended without success.
    var hasFailures: Bool {
        known.values.contains { $0.state == .failed || $0.state == .cancelled }
    }

    private mutating func note(_ id: JobID, _ sequence: Int64, _ state: JobState?) {
        if case .all = subject {
            if state?.isFinal == true {
                known[id] = nil
                return
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
    /// The same request would end the same way.
    var isHopeless: Bool {
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
