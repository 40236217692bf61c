/// A page of jobs, and where the next one begins.
package struct JobPage: Sendable {
    package var jobs: [JobRecord]
    /// Nil: that was all.
    package var next: Int64?

    package init(jobs: [JobRecord], next: Int64?) {
        self.jobs = jobs
        self.next = next
    }
}
