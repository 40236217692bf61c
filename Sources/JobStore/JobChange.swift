import JobModel
import Postgres
import Support

/// A row of a job's history: the end of an attempt, with its start, or another change of state.
struct JobChange: Sendable {
    var key: JobKey
    var kind: String
    var userID: ExactText
    var queue: String
    var sequence: Int64
    var type: JobEventType
    var attempt: Int
    var node: String?
    /// If set, this is the end of an attempt. The event before it was the attempt's start, or the request to stop it, which
    /// has a row of its own and was preceded by the start.
    var startedAt: Timestamp?
    var at: Timestamp
    var dueAt: Timestamp?
    var error: JobError?
    var result: JobResult?

    /// The events of rows in order, without those up to `after`.
    static func events(_ changes: [JobChange], after: Int64) -> [JobEvent] {
        var events: [JobEvent] = []
        for change in changes {
            if let startedAt = change.startedAt {
                let hadStopRequest =
                    events.last?.type == .cancelRequested && events.last?.sequence == change.sequence - 1
                let start = change.sequence - (hadStopRequest ? 2 : 1)
                if start > after {
                    let started = change.event(start, .started, at: startedAt)
                    events.insert(started, at: hadStopRequest ? events.count - 1 : events.count)
                }
            }
            guard change.sequence > after else { continue }
            var event = change.event(change.sequence, change.type, at: change.at)
            event.error = change.error
            event.dueAt = change.dueAt
            event.result = change.result
            events.append(event)
        }
        return events
    }

    /// The attempts of rows in order, including one that still runs.
    static func attempts(_ changes: [JobChange]) throws(PostgresError) -> [Attempt] {
        var attempts: [Attempt] = []
        for change in changes {
            if change.type == .started {
                attempts.append(
                    Attempt(
                        number: change.attempt, node: change.node ?? "", startedAt: change.at, endedAt: nil,
                        outcome: .running, error: nil))
            } else if let startedAt = change.startedAt {
                guard let outcome = Attempt.Outcome(endedBy: change.type, cause: change.error?.cause) else {
                    throw PostgresError(
                        .decoding,
                        "event \(change.sequence) of job \(change.key.id) ends a run as \(change.type.rawValue)"
                    )
                }
                attempts.append(
                    Attempt(
                        number: change.attempt, node: change.node ?? "", startedAt: startedAt,
                        endedAt: change.at, outcome: outcome, error: change.error,
                        isCounted: outcome != .released))
            }
        }
        return attempts
    }

    private func event(_ sequence: Int64, _ type: JobEventType, at: Timestamp) -> JobEvent {
        JobEvent(
            jobID: key.id, sequence: sequence, type: type, at: at, attempt: attempt,
            node: node, kind: kind, userID: userID, queue: queue)
    }
}
