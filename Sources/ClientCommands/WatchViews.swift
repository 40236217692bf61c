import JobModel
import SignalboxProto
import Support

/// One message of a watch, with exactly one field set.
struct WatchView: Encodable {
    struct Snapshot: Encodable {
        let job: JobView
    }

    struct Lifecycle: Encodable {
        let jobId: String
        let sequence: Int64
        let type: String
        let state: String
        let at: String
        let attempt: Int
        let node: String?
        let error: ErrorView?
        let dueAt: String?
        let result: ResultView?
        let kind: String
        let userId: String
        let queue: String
    }

    struct ProgressEvent: Encodable {
        let jobId: String
        let attempt: Int
        let progress: ProgressView
    }

    struct Heartbeat: Encodable {
        let at: String
    }

    struct LogEvent: Encodable {
        let jobId: String
        let lines: [LogLineView]
    }

    private(set) var snapshot: Snapshot?
    private(set) var lifecycle: Lifecycle?
    private(set) var progress: ProgressEvent?
    private(set) var heartbeat: Heartbeat?
    private(set) var log: LogEvent?

    /// Nil for messages that have no name here.
    init?(_ event: WatchEvent) {
        switch event {
        case .snapshot(let job): snapshot = Snapshot(job: JobView(job))
        case .lifecycle(let event):
            lifecycle = Lifecycle(
                jobId: event.jobID.description, sequence: event.sequence, type: event.type.word,
                state: event.state.word, at: event.at.text, attempt: event.attempt, node: event.node,
                error: event.error.map(ErrorView.init), dueAt: event.dueAt?.text,
                result: event.result.map(ResultView.init), kind: event.kind, userId: event.userID.text,
                queue: event.queue)
        case .progress(let id, let attempt, let report):
            progress = ProgressEvent(
                jobId: id.description, attempt: attempt, progress: ProgressView(report))
        case .heartbeat(let at): heartbeat = Heartbeat(at: at.text)
        case .log(let id, let lines):
            log = LogEvent(jobId: id.description, lines: lines.map(LogLineView.init))
        case .removed, .opened, .snapshotsComplete, .other: return nil
        }
    }
}
