/// The progress and the log lines that a run reports.
package struct RunUpdate: Sendable {
    package var key: JobKey
    package var token: Int64
    package var attempt: Int
    package var progress: Progress?
    package var log: [LogLine]

    package init(key: JobKey, token: Int64, attempt: Int, progress: Progress?, log: [LogLine]) {
        self.key = key
        self.token = token
        self.attempt = attempt
        self.progress = progress
        self.log = log
    }
}
