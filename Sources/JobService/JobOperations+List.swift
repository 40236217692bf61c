package import JobModel
import JobStore
package import Support

/// Which page of which jobs a caller wants, as it was written. Empty text, 0 and nil match everything.
package struct JobListQuery: Sendable {
    package var userID: ExactText = ""
    package var queue: ExactText = ""
    package var kind: ExactText = ""
    package var states: Set<JobState> = []
    package var labels: [(key: ExactText, value: ExactText)] = []
    package var createdFrom: Timestamp?
    package var createdTo: Timestamp?
    /// 0: `JobLimits.pageSizeDefault`; at most `JobLimits.pageSizeMax`.
    package var pageSize = 0
    /// From the page before, which was for the same filters and the same caller. Empty: the first page.
    package var pageToken: ExactText = ""

    package init() {}

    fileprivate func filter() -> JobFilter {
        var filter = JobFilter()
        filter.userID = userID.nonEmpty
        filter.queue = queue.nonEmpty?.text
        filter.kind = kind.nonEmpty?.text
        filter.states = states
        filter.labels = Dictionary(labels.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
        filter.createdFrom = createdFrom
        filter.createdTo = createdTo
        return filter
    }
}

/// A page of a list, newest jobs first.
package struct JobListPage: Sendable {
    package private(set) var jobs: [JobRecord]
    /// Where the next page begins; empty: there is none.
    package private(set) var nextToken: String
    private let token: @Sendable (Int64) throws(ServiceError) -> String

    /// - Parameter token: the token of the page that follows the job with this number.
    init(_ page: JobPage, token: @escaping @Sendable (Int64) throws(ServiceError) -> String)
        throws(ServiceError)
    {
        jobs = page.jobs
        nextToken = ""
        self.token = token
        if let next = page.next { nextToken = try token(next) }
    }

    /// Leaves all but the first `count` jobs, at least one, to the next page.
    package mutating func shorten(to count: Int) throws(ServiceError) {
        guard count < jobs.count else { return }
        jobs.removeSubrange(max(1, count)...)
        if let last = jobs.last { nextToken = try token(last.number) }
    }
}

extension JobOperations {
    /// One page of the jobs that match. It can be short, and even empty, while there are more.
    package func list(
        _ query: JobListQuery, found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> JobListPage {
        var check = FieldCheck(violations: violations)
        check.userID(query.userID, required: false)
        check.name(query.queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        check.name(query.kind, "kind", bytesMax: JobLimits.kindBytesMax, required: false)
        check.labels(query.labels, countMax: JobLimits.listLabelsMax)
        check.require(
            (0...JobLimits.pageSizeMax).contains(query.pageSize), "page_size", .outOfRange,
            "is over 1,000")
        try ServiceError.check(check.violations)
        let filter = query.filter()
        if let userID = filter.userID { try caller.check(userID, "user_id") }
        let before = try begin(query.pageToken, filter, for: caller)
        let size = query.pageSize == 0 ? JobLimits.pageSizeDefault : query.pageSize
        var page = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.list(filter, for: caller.users, before: before, size: size)
        }
        for index in page.jobs.indices { page.jobs[index].hide(from: caller) }
        return try JobListPage(page) { [pageTokens] number throws(ServiceError) in
            try pageTokens.encode(number, filter, for: caller)
        }
    }

    /// The number below which the page begins; nil: with the newest job.
    private func begin(
        _ token: ExactText, _ filter: JobFilter, for caller: Caller
    ) throws(ServiceError) -> Int64? {
        guard !token.isEmpty else { return nil }
        guard let before = pageTokens.decode(token.text, filter, for: caller) else {
            throw .pageTokenInvalid
        }
        return before
    }
}
