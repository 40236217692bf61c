import JobModel
import Support

/// The updates of a run that are not saved yet: its latest progress, and log lines. One save at a time. Pure, except that
/// it keeps the waiters for a save.
struct PendingUpdates {
    /// Lines that wait to be saved; when there are more, the oldest are dropped.
    static let logLinesMax = JobLimits.logLinesKept

    private var progress: Progress?
    private var lastReportAt = Timestamp(microseconds: 0)
    /// The largest fraction that was reported.
    private var fractionMax: Double?
    private var log: [LogLine] = []
    private var lastLogLine: Int64
    private var isSaving = false
    private var waiter: CheckedContinuation<Void, Never>?

    /// - Parameter lastLogLine: the number of the last line of the attempts before.
    init(lastLogLine: Int64) {
        self.lastLogLine = lastLogLine
    }

    /// Nothing waits to be saved, and nothing is being saved.
    var isEmpty: Bool { !isSaving && progress == nil && log.isEmpty }

    /// Replaces the progress. Its time is moved behind that of the one before, whatever the clock does, because the times
    /// tell reports apart. Its fraction is never less than one that was reported before: a report without a fraction, or
    /// with a smaller one, has the largest so far.
    mutating func report(_ report: Progress) -> Progress {
        var report = report
        report.updatedAt = max(report.updatedAt, lastReportAt.advanced(by: .microseconds(1)))
        lastReportAt = report.updatedAt
        fractionMax = [fractionMax, report.fraction].compactMap(\.self).max()
        report.fraction = fractionMax
        progress = report
        return report
    }

    mutating func log(
        _ level: LogLine.Level, _ message: String, at time: Timestamp, attempt: Int
    ) -> LogLine {
        lastLogLine += 1
        let line = LogLine(number: lastLogLine, at: time, attempt: attempt, level: level, message: message)
        if log.count >= Self.logLinesMax { log.removeFirst() }
        log.append(line)
        return line
    }

    /// Begins a save. Nil: there is nothing to save, or a save is under way.
    mutating func take(for run: ClaimedRun) -> RunUpdate? {
        guard !isSaving, progress != nil || !log.isEmpty else { return nil }
        isSaving = true
        defer {
            progress = nil
            log = []
        }
        return RunUpdate(run, progress: progress, log: log)
    }

    /// Ends a save. What was not saved is kept for the next one, unless there is something newer.
    ///
    /// - Returns: the waiters for the end of the save, to be resumed.
    mutating func end(_ update: RunUpdate, isSaved: Bool) -> CheckedContinuation<Void, Never>? {
        isSaving = false
        if !isSaved {
            progress = progress ?? update.progress
            log = Array((update.log + log).suffix(Self.logLinesMax))
        }
        return waiter.take()
    }

    /// Keeps a continuation until the save ends. False: none is under way, and it is not kept.
    mutating func wait(_ continuation: CheckedContinuation<Void, Never>) -> Bool {
        if isSaving { waiter = continuation }
        return isSaving
    }
}
