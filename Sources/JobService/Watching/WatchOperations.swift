package import JobModel
package import JobStore
package import JobWatch
package import Support

/// A caller's request to watch named jobs, or the jobs that match a filter, as it was written.
package struct WatchQuery: Sendable {
    package struct Job: Sendable {
        package var id: ExactText
        /// The last event that the caller has; 0: the watch begins with a snapshot of the job.
        package var afterSequence: Int64
        /// The last log line that the caller has; 0: none.
        package var afterLogLine: Int64

        package init(id: ExactText, afterSequence: Int64 = 0, afterLogLine: Int64 = 0) {
            self.id = id
            self.afterSequence = afterSequence
            self.afterLogLine = afterLogLine
        }
    }

    /// The jobs of a user, of a queue or of both; empty text: of any.
    package struct Filter: Sendable {
        package var userID: ExactText
        package var queue: ExactText
        /// Other conditions of the filter that are set, by the names of their fields. A watch is refused that has any: it
        /// follows the jobs of a user or a queue by their lanes, and knows no more of a job than its lane.
        package var otherConditions: [String]

        package init(userID: ExactText = "", queue: ExactText = "", otherConditions: [String] = []) {
            self.userID = userID
            self.queue = queue
            self.otherConditions = otherConditions
        }
    }

    /// At most `JobLimits.watchedJobsMax`.
    package var jobs: [Job]
    package var filter: Filter?
    package var includesLog: Bool
    /// From an earlier watch of the same jobs or filter; empty: the watch begins anew.
    package var resumeToken: ExactText

    package init(
        jobs: [Job] = [], filter: Filter? = nil, includesLog: Bool = false, resumeToken: ExactText = ""
    ) {
        self.jobs = jobs
        self.filter = filter
        self.includesLog = includesLog
        self.resumeToken = resumeToken
    }
}

/// One item of a watch.
package enum WatchItem: Sendable {
    /// The first item: the watch has begun.
    case opened(isResumed: Bool, heartbeatInterval: Duration)
    /// The state with which the watch of a job begins, without result, attempts and log.
    indirect case snapshot(JobRecord)
    /// An event, a progress report or the removal of a job.
    case update(WatchUpdate)
    case log(JobID, [LogLine])
    /// The watch is alive.
    case heartbeat(at: Timestamp, resumeToken: String?)
    /// All snapshots were given.
    case snapshotsComplete(resumeToken: String?)
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
        try ServiceError.check(violations + Self.violations(of: query))
        if let filter = query.filter { return try await begin(filter, query.resumeToken, by: caller) }
        return try await beginJobs(query, by: caller)
    }

    private static func violations(of query: WatchQuery) -> [FieldViolation] {
        var check = FieldCheck()
        check.require(
            query.filter != nil || !query.jobs.isEmpty, "jobs", .required, "or filter is required")
        check.require(
            query.filter == nil || query.jobs.isEmpty, "jobs", .notAllowedHere,
            "may not be given together with filter")
        check.require(
            query.filter == nil || !query.includesLog, "include_log", .notAllowedHere,
            "is only for named jobs")
        check.require(
            query.jobs.count <= JobLimits.watchedJobsMax, "jobs", .tooLong,
            "are more than \(JobLimits.watchedJobsMax)")
        for (index, job) in query.jobs.enumerated() {
            check.require(job.afterSequence >= 0, "jobs[\(index)].after_sequence", .outOfRange, "is negative")
            check.require(job.afterLogLine >= 0, "jobs[\(index)].after_log_line", .outOfRange, "is negative")
        }
        guard let filter = query.filter else { return check.violations }
        check.require(
            !filter.userID.isEmpty || !filter.queue.isEmpty, "filter", .required, "must have user_id or queue"
        )
        var inFilter = FieldCheck(path: "filter.", violations: check.violations)
        inFilter.userID(filter.userID, required: false)
        inFilter.name(filter.queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        for field in filter.otherConditions {
            inFilter.require(
                false, field, .notAllowedHere,
                "is not supported by Watch, which selects by user_id and queue")
        }
        return inFilter.violations
    }

    /// The place that a token names. Nil: there is no token, or it is not usable.
    private func place(
        _ token: ExactText, of subject: WatchSubject, for users: UserScope = .all
    ) throws(ServiceError) -> WatchPlace? {
        guard !token.isEmpty else { return nil }
        switch hub.tokens.decode(token, of: subject, for: users) {
        case .place(let place): return place
        case .unusable: return nil
        case .ofAnotherSubject:
            throw .invalid([
                FieldViolation(
                    field: "resume_token", reason: .notAllowedHere,
                    description: "was sent for other jobs or another filter")
            ])
        }
    }

    // MARK: Named jobs

    private func beginJobs(
        _ query: WatchQuery, by caller: Caller
    ) async throws(ServiceError) -> WatchBeginning {
        let ids = try Self.ids(query.jobs)
        let place = try place(query.resumeToken, of: .jobs(ids))
        let locators = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.locators(of: ids, for: caller.users)
        }
        if let only = ids.first, ids.count == 1, locators[only] == nil { throw .notFound(only) }
        let numbers = locators.mapValues { $0.number }
        let resumed = try await usable(place, numbers)
        var jobs: [WatchBeginning.Job] = []
        for (id, job) in zip(ids, query.jobs) {
            var start = WatchBeginning.Job.Start.snapshot
            if let resumed {
                start = resumed[id].map { .place($0) } ?? .snapshot
            } else if query.resumeToken.isEmpty, job.afterSequence > 0 || job.afterLogLine > 0 {
                start = .after(job.afterSequence, logLine: job.afterLogLine)
            }
            jobs.append(.init(id: id, number: numbers[id], start: start))
        }
        let onClose = try quotas.openWatch(of: locators.values.lazy.map(\.userID))
        let watch = hub.subscribe(
            to: numbers, includesLog: query.includesLog, namesNodes: caller.seesNodes, onClose: onClose)
        return WatchBeginning(
            watch, store: store, users: caller.users, isResumed: resumed != nil,
            reading: .jobs(jobs[...], of: jobs))
    }

    /// The ids of the jobs, none of which is given twice.
    private static func ids(_ jobs: [WatchQuery.Job]) throws(ServiceError) -> [JobID] {
        var ids: [JobID] = []
        var known: Set<JobID> = []
        for (index, job) in jobs.enumerated() {
            let field = "jobs[\(index)].job_id"
            let id = try JobID(job.id, field: field)
            guard known.insert(id).inserted else {
                throw .invalid([
                    FieldViolation(field: field, reason: .notAllowedHere, description: "is given twice")
                ])
            }
            ids.append(id)
        }
        return ids
    }

    /// The place, unless it is of another job with the same id, or some job has not come as far as it says: then the
    /// database was restored from a backup.
    private func usable(
        _ place: WatchPlace?, _ numbers: [JobID: Int64]
    ) async throws(ServiceError) -> [JobID: JobPlace]? {
        guard case .jobs(let places) = place else { return nil }
        let now = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.sequences(of: Array(numbers.values))
        }
        for (number, job) in now {
            if case .sent(let known, let sequence, _) = places[job.id],
                known != number || sequence > job.sequence
            {
                return nil
            }
        }
        return places
    }

    // MARK: A user or a queue

    private func begin(
        _ filter: WatchQuery.Filter, _ token: ExactText, by caller: Caller
    ) async throws(ServiceError) -> WatchBeginning {
        let queue = filter.queue.nonEmpty?.text
        let userID = filter.userID.nonEmpty
        if let userID { try caller.check(userID, "filter.user_id") }
        let users = userID.map { .only([$0]) } ?? caller.users
        let place = try place(token, of: .all(userID: userID, queue: queue), for: users)
        // The watch of a queue by a caller who may act for all users does not count against any of them.
        let counted: Set<ExactText> = if case .only(let users) = users { users } else { [] }
        func subscribe() throws(ServiceError) -> Watch {
            hub.subscribe(
                userID: userID, queue: queue, users: users, namesNodes: caller.seesNodes,
                onClose: try quotas.openWatch(of: counted))
        }
        var watch = try subscribe()
        if case .changes(let place) = place {
            do throws(ServiceError) {
                if let missed = try await MissedChanges.read(
                    watch, store, since: place, users: users, queue: queue)
                {
                    return WatchBeginning(
                        watch, store: store, users: users, isResumed: true,
                        reading: .missed(missed.jobs[...], progress: missed.reported[...]),
                        place: missed.place)
                }
            } catch {
                watch.close()
                throw error
            }
            // The jobs that were tracked for the resume are not known to the client, so the snapshots need a subscription
            // that knows none.
            watch.close()
            watch = try subscribe()
        }
        do throws(ServiceError) {
            // The snapshots, which are read later, include all that is before it.
            let now = try await ServiceError.mapping { () async throws(StoreError) in
                try await store.openChanges()
            }
            return WatchBeginning(
                watch, store: store, users: users, isResumed: false,
                reading: .scope(queue: queue, numbers: [], next: 0), place: now.place)
        } catch {
            watch.close()
            throw error
        }
    }
}
