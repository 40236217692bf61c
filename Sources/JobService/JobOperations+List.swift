package import JobModel
import JobStore
package import Support

/// The filter of a list of jobs, as it was written. Empty text, an empty list and nil match everything.
package struct JobListQuery: Sendable {
    package var userID: ExactText = ""
    package var queue: ExactText = ""
    package var kinds: [ExactText] = []
    package var states: Set<JobState> = []
    package var labels: [(key: ExactText, value: ExactText)] = []
    package var createdFrom: Timestamp?
    package var createdTo: Timestamp?
    package var page = PageRequest()

    package init() {}

    fileprivate func check(_ violations: [FieldViolation]) throws(ServiceError) {
        var filter = FieldCheck(path: "filter.", violations: violations)
        filter.userID(userID, required: false)
        filter.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        filter.require(
            kinds.count <= JobLimits.listKindsMax, "kinds", .tooLong,
            "are more than \(JobLimits.listKindsMax)")
        for (index, kind) in kinds.prefix(JobLimits.listKindsMax).enumerated() {
            filter.name(kind, "kinds[\(index)]", bytesMax: JobLimits.kindBytesMax, required: true)
        }
        filter.labels(labels, countMax: JobLimits.listLabelsMax)
        var check = FieldCheck(violations: filter.violations)
        check.page(page)
        try ServiceError.check(check.violations)
    }

    fileprivate func filter() -> JobFilter {
        var filter = JobFilter()
        filter.userID = userID.nonEmpty
        filter.queue = queue.nonEmpty?.text
        filter.kinds = Set(kinds.map(\.text))
        filter.states = states
        filter.labels = Dictionary(labels.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
        filter.createdFrom = createdFrom
        filter.createdTo = createdTo
        return filter
    }
}

extension PagedList {
    init(_ filter: JobFilter) {
        self.init(
            "ListJobs", filter.userID?.text, filter.queue, filter.kinds.sorted().joined(separator: ","),
            filter.states.map(\.rawValue).sorted().joined(separator: ","),
            filter.createdFrom.map { "\($0.microseconds)" }, filter.createdTo.map { "\($0.microseconds)" })
        // In the order of their bytes, because a dictionary has none.
        for (key, value) in filter.labels.sorted(by: { $0.key < $1.key }) {
            add(key.text)
            add(value.text)
        }
    }
}

extension JobOperations {
    /// One page of the jobs that match, newest first. It can be short, and even empty, while there are more.
    package func list(
        _ query: JobListQuery, found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> ListPage<JobRecord> {
        try query.check(violations)
        let filter = query.filter()
        if let userID = filter.userID { try caller.check(userID, "filter.user_id") }
        let size = query.page.size(max: JobLimits.pageSizeMax)
        return try await pageTokens.page(query.page, of: PagedList(filter), for: caller) {
            before throws(ServiceError) in
            var page = try await ServiceError.mapping { () async throws(StoreError) in
                try await store.list(filter, for: caller.users, before: before, size: size)
            }
            for index in page.jobs.indices { page.jobs[index].hide(from: caller) }
            return StorePage(items: page.jobs, positions: page.jobs.map(\.number), next: page.next)
        }
    }

    /// One page of a job's attempts, oldest first.
    package func attempts(
        of id: JobID, _ page: PageRequest, found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> ListPage<Attempt> {
        var check = FieldCheck(violations: violations)
        check.page(page)
        try ServiceError.check(check.violations)
        let size = page.size(max: JobLimits.historyPageSizeMax)
        return try await pageTokens.page(page, of: PagedList("ListAttempts", "\(id)"), for: caller) {
            position throws(ServiceError) in
            let found = try await ServiceError.mapping { () async throws(StoreError) in
                try await store.attempts(of: id, for: caller.users, after: position, size: size)
            }
            guard var attempts = found else { throw .notFound(id) }
            if !caller.seesNodes {
                for index in attempts.items.indices { attempts.items[index].node = "" }
            }
            return attempts
        }
    }

    /// One page of the lines that a job's log has kept, oldest first.
    ///
    /// - Parameters:
    ///   - line: only lines after the one with this number.
    ///   - level: the lowest level; nil: every level.
    package func logLines(
        of id: JobID, after line: Int64 = 0, from level: LogLine.Level? = nil, _ page: PageRequest,
        found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> ListPage<LogLine> {
        var check = FieldCheck(violations: violations)
        check.require(line >= 0, "after_line", .outOfRange, "is negative")
        check.page(page)
        try ServiceError.check(check.violations)
        let size = page.size(max: JobLimits.historyPageSizeMax)
        let list = PagedList("ListLogLines", "\(id)", "\(line)", level?.rawValue)
        return try await pageTokens.page(page, of: list, for: caller) { position throws(ServiceError) in
            let lines = try await ServiceError.mapping { () async throws(StoreError) in
                try await store.logLines(
                    of: id, for: caller.users, after: position ?? line, from: level, size: size)
            }
            guard let lines else { throw .notFound(id) }
            return lines
        }
    }
}
