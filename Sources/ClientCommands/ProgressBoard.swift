import JobModel
import SignalboxProto

/// The watched jobs as bars, and the lines to print above the bars once each. Pure.
struct ProgressBoard: Sendable {
    /// The most live jobs that are kept. Further jobs are only reported when they end.
    static let jobsMax = 1000
    /// The most lines that are kept until the next frame.
    static let linesMax = 1000

    private let glyphs: ProgressBar.Glyphs
    /// The ids in the order in which the jobs were first reported.
    private var order: [JobID] = []
    private var jobs: [JobID: ProgressBar] = [:]
    private var lines: [String] = []
    /// The jobs whose end was reported by a snapshot, so that the event of the same end is left out.
    private var ended: Set<JobID> = []

    init(glyphs: ProgressBar.Glyphs = .blocks) {
        self.glyphs = glyphs
    }

    mutating func apply(_ message: WatchEvent) {
        switch message {
        case .snapshot(let job):
            var bar = ProgressBar(id: job.id, kind: job.spec.kind, state: job.state)
            bar.dueAt = job.dueAt
            bar.startedAt = job.startedAt
            bar.attempt = job.attempt
            bar.progress = job.progress
            bar.isCancelling = job.cancelRequested
            if job.state.isFinal {
                end(bar, at: job.finishedAt, error: job.state == .succeeded ? nil : job.error)
                ended.insert(job.id)
            } else {
                put(bar)
            }
        case .lifecycle(let event):
            var bar =
                jobs[event.jobID] ?? ProgressBar(id: event.jobID, kind: event.kind, state: event.state)
            bar.state = event.state
            bar.attempt = max(bar.attempt, event.attempt)
            bar.dueAt = event.dueAt
            if event.type == .started {
                bar.startedAt = event.at
                bar.progress = nil
            }
            bar.isCancelling = event.type == .cancelRequested
            if event.state.isFinal {
                if ended.remove(event.jobID) == nil { end(bar, at: event.at, error: event.error) }
            } else {
                if event.type == .retryScheduled || event.type == .released {
                    add(line: "\(event.jobID) \(WatchLine.text(event))")
                }
                put(bar)
            }
        case .progress(let id, let attempt, let progress):
            guard var bar = jobs[id] else { return }
            bar.attempt = attempt
            bar.progress = progress
            jobs[id] = bar
        case .log(let id, let lines):
            for line in lines { add(line: "\(id.description.suffix(8)) \(WatchLine.text(line))") }
        case .removed(let id):
            if jobs.removeValue(forKey: id) != nil { order.removeAll { $0 == id } }
            add(line: "\(id) REMOVED")
        case .heartbeat, .opened, .snapshotsComplete, .other:
            return
        }
    }

    mutating func add(line: String) {
        if lines.count < Self.linesMax { lines.append(line) }
    }

    /// Returns and removes the lines since the last call.
    mutating func takeLines() -> [String] {
        defer { lines = [] }
        return lines
    }

    /// The bars, running jobs first. There are never more lines than rows on the screen.
    func bars(now: Timestamp, columns: Int, rows: Int) -> [String] {
        let all = order.compactMap { jobs[$0] }
        let sorted = all.filter { $0.state == .running } + all.filter { $0.state != .running }
        // One row is for the cursor, and one for the number of further jobs.
        let room = max(1, rows - 2)
        let shown = sorted.prefix(room)
        let nameColumns = shown.map(\.name.columns).max() ?? 0
        var bars = shown.map {
            $0.line(now: now, columns: columns, nameColumns: nameColumns, glyphs: glyphs)
        }
        if sorted.count > room { bars.append("and \(sorted.count - room) more") }
        return bars
    }

    private mutating func put(_ bar: ProgressBar) {
        ended.remove(bar.id)
        if jobs[bar.id] == nil {
            guard jobs.count < Self.jobsMax else { return }
            order.append(bar.id)
        }
        jobs[bar.id] = bar
    }

    private mutating func end(_ bar: ProgressBar, at end: Timestamp?, error: JobError?) {
        if jobs.removeValue(forKey: bar.id) != nil { order.removeAll { $0 == bar.id } }
        var line = "\(bar.id) \(bar.state.word) \(bar.kind)"
        if let start = bar.startedAt, let end { line += " in \(end.since(start).brief)" }
        if bar.attempt > 1 { line += ", attempt \(bar.attempt)" }
        if let error { line += ", \(error.text)" }
        add(line: line.printable)
    }
}

/// The bar of one job, on one line. Pure.
struct ProgressBar: Sendable {
    struct Glyphs: Sendable, Equatable {
        var done: Character
        var left: Character

        static let blocks = Glyphs(done: "█", left: "░")
        static let ascii = Glyphs(done: "#", left: ".")
    }

    let id: JobID
    let kind: String
    var state: JobState
    var attempt = 0
    var dueAt: Timestamp?
    var startedAt: Timestamp?
    var progress: Progress?
    var isCancelling = false

    init(id: JobID, kind: String, state: JobState) {
        self.id = id
        self.kind = kind
        self.state = state
    }

    /// The kind and the end of the id. The beginning of an id is a time, and is the same for jobs made together.
    var name: String { "\(kind.printable.cut(toColumns: 30)) \(id.description.suffix(8))" }

    /// The line `kind 0123abcd [█████░░░░░]  50% 0:12 stage 3/7 message`, narrower than `columns`.
    func line(now: Timestamp, columns: Int, nameColumns: Int, glyphs: Glyphs) -> String {
        var parts = [name.padded(toColumns: nameColumns)]
        if state == .running {
            // Before the first report nothing is done.
            let known = progress.map { $0.fraction } ?? 0
            let fraction = min(max(known ?? 0, 0), 1)
            // On a narrow terminal the text is more useful than the bar.
            let width = columns < 60 ? 0 : min(columns / 4, 30)
            if width > 0 {
                let done = Int((fraction * Double(width)).rounded(.down))
                let bar =
                    String(repeating: glyphs.done, count: done)
                    + String(repeating: glyphs.left, count: width - done)
                parts.append("[\(bar)]")
            }
            parts.append((known == nil ? "?" : WatchLine.percent(fraction)).padded(toColumns: 4, left: true))
            if let startedAt { parts.append(now.since(startedAt).brief.padded(toColumns: 5, left: true)) }
            if attempt > 1 { parts.append("attempt \(attempt)") }
            if isCancelling { parts.append("being cancelled") }
            if let progress { parts.append(WatchLine.details(progress)) }
        } else if let dueAt, dueAt > now {
            parts.append("due in \(dueAt.since(now).brief)")
        } else {
            parts.append("waits")
        }
        // The last column stays free: some terminals wrap as soon as it is written.
        return parts.filter { !$0.isEmpty }.joined(separator: " ").cut(toColumns: columns - 1)
    }
}
