import JobModel
import Support

/// Jobs and events to show.
enum Sample {
    static let id = JobID("0190a000-0000-7000-8000-0000deadbeef")!
    static let other = JobID("0190a000-0000-7000-8000-0000cafecafe")!
    /// 2024-07-03T10:00:00Z
    static let start = Timestamp(microseconds: 1_720_000_800_000_000)

    static func job(
        _ state: JobState = .running, id: JobID = id, sequence: Int64 = 2, progress: Progress? = nil
    ) -> JobRecord {
        JobRecord(
            number: 0, id: id, spec: JobSpec(kind: "test.sleep", userID: "ada", due: .at(start)),
            state: state, sequence: sequence, createdAt: start, dueAt: start,
            startedAt: state == .pending ? nil : start,
            finishedAt: state.isFinal ? start.advanced(by: .milliseconds(12_500)) : nil,
            attempt: state == .pending ? 0 : 1, attemptsUsed: state == .pending ? 0 : 1, progress: progress,
            error: state == .failed
                ? JobError(reason: "", message: "no such voice", cause: .handlerPermanent) : nil)
    }

    static func event(
        _ type: JobEventType, sequence: Int64, id: JobID = id, error: JobError? = nil
    ) -> JobEvent {
        JobEvent(
            jobID: id, sequence: sequence, type: type,
            at: start.advanced(by: .seconds(sequence)), attempt: 1, node: "node-a", error: error,
            kind: "test.sleep", userID: "ada", queue: "default")
    }

    static func progress(_ fraction: Double, message: String = "Speaking") -> Progress {
        Progress(
            stage: "synthesis", fraction: fraction, message: message, done: 3, total: 7, updatedAt: start)
    }
}
