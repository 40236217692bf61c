/// A page of jobs, with the start of the next page.
package struct JobPage: Sendable {
    package var jobs: [JobRecord]
    /// The start of the next page; nil if there is none.
    package var next: Int64?

    package init(jobs: [JobRecord], next: Int64?) {
        self.jobs = jobs
        self.next = next
    }
}
