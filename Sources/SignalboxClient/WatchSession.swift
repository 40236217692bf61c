package import GRPC
package import JobModel
package import SignalboxProto
import Support

/// One watch over all its connections: what its user knows already, and where to resume. Pure.
///
///     request() ──▶ stream ──▶ receive(message) ──▶ what is new, for the user
///        ▲             │ ended
///        └── again ────┴──▶ isOver: every named job is final
///
/// Named jobs resume by `after_sequence`, so that no event is left out or given twice. A watch of a user or queue
/// cannot resume by sequence: there, snapshots of jobs that have changed meanwhile stand for the events that were
/// missed, and `unaccounted` are the jobs that are not live any more.
package struct WatchSession: Sendable {
    package enum Subject: Sendable, Equatable {
        case jobs([JobID])
        /// Empty text: any. Never ends by itself.
        case all(userID: String, queue: String)
    }

    /// The number of live jobs whose sequences a watch of a user or queue remembers. Events of further jobs may be given
    /// again after a reconnection.
    static let knownMax = 100_000

    private struct Known {
        var sequence: Int64
        /// Nil: nothing was received about it yet.
        var state: JobModel.JobState?
        var logNumber: Int64 = 0
        /// The connection that last said something about it.
        var connection = 0
    }

    package let subject: Subject
    private let includesLog: Bool
    private var known: [JobID: Known] = [:]
    /// Named jobs that do not exist.
    private var removed: Set<JobID> = []
    private var connection = 0
    private var isComplete = false

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
        switch subject {
        case .jobs(let ids):
            // Nothing more follows the end of a job, and by now it may have been removed: to name it again would end the
            // watch of all the others with NOT_FOUND.
            let open = ids.filter { !isFinal($0) }
            return WatchRequest(
                jobs: open.map {
                    WatchRequest.Watched(jobID: "\($0)", afterSequence: known[$0]?.sequence ?? 0)
                }, includeLog: includesLog)
        case .all(let userID, let queue):
            return WatchRequest(
                filter: JobFilterMessage(userID: ExactText(userID), queue: ExactText(queue)))
        }
    }

    /// The new part of a message. Nil: it has none.
    package mutating func receive(_ message: WatchEvent) -> WatchEvent? {
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
        case .snapshotsComplete:
            guard !isComplete else { return nil }
            isComplete = true
            return message
        case .removed(let id):
            known[id] = nil
            removed.insert(id)
            return nil
        case .heartbeat, .opened, .other:
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

    /// Jobs to be looked up, once the snapshots of a new connection have come (a user's or queue's watch:
    /// live when last heard of, and not among them) or the stream has ended with OK (named jobs: final, but
    /// after a sequence that was known, so that nothing was sent).
    package func unaccounted() -> [JobID] {
        switch subject {
        case .jobs(let ids): ids.filter { !isFinal($0) }
        case .all: known.filter { $0.value.connection != connection }.map(\.key)
        }
    }

    /// The update for a job that was looked up. The record is nil if the job does not exist any more.
    package mutating func account(for id: JobID, _ job: JobRecord?) -> WatchEvent? {
        guard let job else {
            known[id] = nil
            return nil
        }
        return take(job)
    }

    /// Every named job is final.
    package var isOver: Bool {
        guard case .jobs(let ids) = subject else { return false }
        return ids.allSatisfy(isFinal)
    }

    private func isFinal(_ id: JobID) -> Bool {
        removed.contains(id) || known[id]?.state?.isFinal == true
    }

    /// Whether a named job ended without success.
    package var hasFailures: Bool {
        known.values.contains { $0.state == .failed || $0.state == .cancelled }
    }

    private mutating func note(_ id: JobID, _ sequence: Int64, _ state: JobModel.JobState?) {
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
