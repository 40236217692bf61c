package import JobModel
package import JobStore
package import JobWatch
package import Support

/// The target of a watch as its caller has written it: named jobs, or everything of a user, a queue or both.
package struct WatchQuery: Sendable {
    package struct Job: Sendable {
        package var id: ExactText
        /// The last event that the caller has; 0: the watch begins with a snapshot of the job.
        package var afterSequence: Int64

        package init(id: ExactText, afterSequence: Int64 = 0) {
            self.id = id
            self.afterSequence = afterSequence
        }
    }

    /// The caller bounds their number (`JobLimits.watchedJobsMax`).
    package var jobs: [Job]
    package var userID: ExactText
    package var queue: ExactText
    package var includesLog: Bool

    package init(
        jobs: [Job] = [], userID: ExactText = "", queue: ExactText = "", includesLog: Bool = false
    ) {
        self.jobs = jobs
        self.userID = userID
        self.queue = queue
        self.includesLog = includesLog
    }
}

/// One item of a watch.
package enum WatchItem: Sendable {
    /// The state with which the watch of a job begins, without result, attempts and log.
    indirect case snapshot(JobRecord)
    /// An event or a progress report.
    case update(WatchUpdate)
    case log(JobID, [LogLine])
    /// The watch is alive.
    case heartbeat(at: Timestamp)
    /// All snapshots were given.
    case snapshotsComplete
}

/// Begins watches. A watch is for callers that may read jobs with their results.
///
/// The order is always the same: subscribe, read the state, send it, then follow the subscription. What happens in between
/// is in both the state and the subscription, and the subscription leaves out what was sent.
package struct WatchOperations: Sendable {
    private let store: JobStore
    private let hub: WatchHub
    private let quotas: UserQuotas

    package init(store: JobStore, hub: WatchHub, quotas: UserQuotas) {
        self.store = store
        self.hub = hub
        self.quotas = quotas
    }

    /// Subscribes. The state is read as the reader pulls it; after that the reader has to call `follow`, and `close`
    /// instead if it stops before.
    package func begin(
        _ query: WatchQuery, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) -> WatchBeginning {
        var check = FieldCheck(violations: violations)
        check.userID(query.userID, required: false)
        check.name(query.queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        let isScope = !query.userID.isEmpty || !query.queue.isEmpty
        check.require(isScope || !query.jobs.isEmpty, "jobs", .required, "or user_id or queue is required")
        check.require(
            !isScope || query.jobs.isEmpty, "jobs", .notAllowedHere,
            "may not be given together with user_id or queue")
        check.require(
            !isScope || !query.includesLog, "include_log", .notAllowedHere, "is only for named jobs")
        try ServiceError.check(check.violations)
        return query.jobs.isEmpty
            ? try beginScope(query, by: caller) : try await beginJobs(query, by: caller)
    }

    private func beginJobs(
        _ query: WatchQuery, by caller: Caller
    ) async throws(ServiceError) -> WatchBeginning {
        var ids: [JobID] = []
        var after: [JobID: Int64] = [:]
        for (index, job) in query.jobs.enumerated() {
            let field = "jobs[\(index)].job_id"
            let id = try JobID(job.id, field: field)
            guard after.updateValue(job.afterSequence, forKey: id) == nil else {
                throw .invalid([
                    FieldViolation(field: field, reason: .notAllowedHere, description: "is given twice")
                ])
            }
            ids.append(id)
        }
        let locators = try await ServiceError.mapping { [ids] () async throws(StoreError) in
            try await store.locators(of: ids, for: caller.users)
        }
        var jobs: [WatchBeginning.Job] = []
        for id in ids {
            guard let locator = locators[id] else { throw .notFound(id) }
            jobs.append(.init(id: id, number: locator.number, after: after[id] ?? 0))
        }
        let onClose = try quotas.openWatch(of: locators.values.lazy.map(\.userID))
        let watch = hub.subscribe(
            to: locators.mapValues { $0.number }, includesLog: query.includesLog,
            namesNodes: caller.seesNodes,
            onClose: onClose)
        return WatchBeginning(
            watch, store: store, users: caller.users, reading: .jobs(jobs[...], of: jobs)
        )
    }

    private func beginScope(_ query: WatchQuery, by caller: Caller) throws(ServiceError) -> WatchBeginning {
        let queue = query.queue.nonEmpty?.text
        let userID = query.userID.nonEmpty
        if let userID { try caller.check(userID, "user_id") }
        let users = userID.map { .only([$0]) } ?? caller.users
        // The watch of a queue by a caller who may act for all users does not count against any of them.
        let counted: Set<ExactText> = if case .only(let users) = users { users } else { [] }
        let onClose = try quotas.openWatch(of: counted)
        let watch = hub.subscribe(
            userID: userID, queue: queue, users: userID == nil ? caller.users : .all,
            namesNodes: caller.seesNodes, onClose: onClose)
        return WatchBeginning(
            watch, store: store, users: users,
            reading: .scope(queue: queue, numbers: [], next: 0))
    }
}
