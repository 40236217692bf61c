import JobModel
import SignalboxProto

/// The messages of a watch as plain lines, which begin with the job's id.
enum WatchLine {
    static func lines(for message: WatchEvent) -> [String] {
        switch message {
        case .snapshot(let job): ["\(job.id) \(text(job))"]
        case .lifecycle(let event): ["\(event.jobID) \(text(event))"]
        case .progress(let id, _, let progress): ["\(id) \(text(progress))"]
        case .log(let id, let lines): lines.map { "\(id) \(text($0))" }
        case .removed(let id): ["\(id) REMOVED"]
        case .heartbeat, .opened, .snapshotsComplete, .other: []
        }
    }

    static func text(_ job: JobRecord) -> String {
        var text = "\(job.state.word) \(job.spec.kind)"
        if job.attempt > 0 {
            text += ", attempt \(job.attempt) (\(job.attemptsUsed) of \(job.spec.maxAttempts) used)"
        }
        if job.cancelRequested { text += ", being cancelled" }
        if job.state == .running, let progress = job.progress { text += ", \(self.text(progress))" }
        if job.state != .succeeded, let error = job.error { text += ", \(error.text)" }
        return text.printable
    }

    static func text(_ event: JobEvent) -> String {
        // A newer server may send events whose type is not known here: the state is.
        var text = event.type?.word ?? "CHANGED to \(event.state.word)"
        switch event.type {
        case .enqueued, .retried: text += " \(event.kind)"
        case .started, .retryScheduled, .released, .succeeded, .failed, .cancelled, .cancelRequested, nil:
            if event.attempt > 0 { text += " attempt \(event.attempt)" }
        }
        if event.type == .started, let node = event.node { text += " on \(node)" }
        if let error = event.error { text += ", \(error.text)" }
        if let dueAt = event.dueAt, dueAt > event.at { text += ", due \(dueAt.text)" }
        return text.printable
    }

    /// Progress as `42% stage 3/7 message`, without the percents if they are not known.
    static func text(_ progress: Progress) -> String {
        let percents = progress.fraction.map { percent($0).padded(toColumns: 4, left: true) }
        let parts = [percents ?? "", details(progress)]
        return parts.filter { !$0.isEmpty }.joined(separator: " ").printable
    }

    static func text(_ line: LogLine) -> String {
        "[\(line.level?.rawValue ?? "unknown")] \(line.message)".printable
    }

    /// Progress as `stage 3/7 message`.
    static func details(_ progress: Progress) -> String {
        let steps = progress.total > 0 ? "\(progress.done)/\(progress.total)" : ""
        return [progress.stage, steps, progress.message].filter { !$0.isEmpty }.joined(separator: " ")
            .printable
    }

    /// The fraction in whole percents, rounded down, so that 100% means done.
    static func percent(_ fraction: Double) -> String {
        "\(Int((min(max(fraction, 0), 1) * 100).rounded(.down)))%"
    }
}
