package import JobModel
package import JobStore
package import Support

/// The operations of those who administrate the service. Queues belong to all users: a caller who may administrate them
/// sees and changes them for everyone. Where an operation names a user, the caller has to be allowed to act for that user.
package struct AdminOperations: Sendable {
    let store: JobStore
    let defaultUserLimit: Int
    let pageTokens: PageTokens

    /// - Parameter defaultUserLimit: the limit of each user in a queue that has no limit of its own.
    package init(store: JobStore, defaultUserLimit: Int, pageTokens: PageTokens) {
        self.store = store
        self.defaultUserLimit = defaultUserLimit
        self.pageTokens = pageTokens
    }

    // MARK: Queues

    /// - Parameter stats: whether to count the jobs of the queue.
    package func queue(
        _ queue: ExactText, stats: Bool = false, found violations: [FieldViolation] = []
    ) async throws(ServiceError) -> QueueRecord {
        try Self.check(queue: queue, violations)
        let found = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.queue(queue.text, stats: stats)
        }
        guard let found else { throw .queueNotFound(queue.text) }
        return found
    }

    /// One page of all queues, in the order of their names.
    ///
    /// - Parameter stats: whether to count their jobs. Then a page has at most `JobLimits.countedQueuesMax` queues.
    package func queues(
        _ page: PageRequest = PageRequest(), stats: Bool = false, found violations: [FieldViolation] = [],
        for caller: Caller
    ) async throws(ServiceError) -> ListPage<QueueRecord> {
        var check = FieldCheck(violations: violations)
        check.page(page)
        try ServiceError.check(check.violations)
        let size = page.size(max: stats ? JobLimits.countedQueuesMax : JobLimits.pageSizeMax)
        return try await pageTokens.page(page, of: PagedList("ListQueues"), for: caller) {
            position throws(ServiceError) in
            try await ServiceError.mapping { () async throws(StoreError) in
                try await store.queues(after: position, size: size, stats: stats)
            }
        }
    }

    /// Lets no job of the queue start until it is resumed. Running jobs go on.
    package func pause(
        queue: ExactText, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) -> QueueRecord {
        try await setPaused(true, queue, violations, caller)
    }

    package func resume(
        queue: ExactText, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) -> QueueRecord {
        try await setPaused(false, queue, violations, caller)
    }

    private func setPaused(
        _ isPaused: Bool, _ queue: ExactText, _ violations: [FieldViolation], _ caller: Caller
    ) async throws(ServiceError) -> QueueRecord {
        try Self.check(queue: queue, violations)
        let found = try await ServiceError.mapping(isWrite: true) { () async throws(StoreError) in
            try await store.setPaused(isPaused, queue: queue.text, by: caller)
        }
        guard let found else { throw .queueNotFound(queue.text) }
        return found
    }

    private static func check(queue: ExactText, _ violations: [FieldViolation]) throws(ServiceError) {
        var fields = FieldCheck(violations: violations)
        fields.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: true)
        try ServiceError.check(fields.violations)
    }

    // MARK: Nodes

    /// One page of the nodes, newest first. Of the jobs that run on them, those of the caller's users are named.
    package func nodes(
        _ page: PageRequest = PageRequest(), found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> ListPage<NodeRecord> {
        var check = FieldCheck(violations: violations)
        check.page(page)
        try ServiceError.check(check.violations)
        let size = page.size(max: JobLimits.pageSizeMax)
        return try await pageTokens.page(page, of: PagedList("ListNodes"), for: caller) {
            position throws(ServiceError) in
            try await ServiceError.mapping { () async throws(StoreError) in
                try await store.nodes(for: caller.users, before: position, size: size)
            }
        }
    }
}
