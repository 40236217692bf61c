/// The progress and the log lines that a run reports.
package struct RunUpdate: Sendable {
    package var run: ClaimedRun
    package var progress: Progress?
    package var log: [LogLine]

    package init(_ run: ClaimedRun, progress: Progress?, log: [LogLine]) {
        self.run = run
        self.progress = progress
        self.log = log
    }
}
