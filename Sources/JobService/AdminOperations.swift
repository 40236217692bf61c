package import JobModel
package import JobStore
package import Support

/// The operations of those who administrate the service. Queues belong to all users: a caller who may administrate them
/// sees and changes them for everyone. Where an operation names a user, the caller has to be allowed to act for that user.
package struct AdminOperations: Sendable {
    private let store: JobStore
    private let defaultUserLimit: Int

    /// - Parameter defaultUserLimit: the limit of each user in a queue that has no limit of its own.
    package init(store: JobStore, defaultUserLimit: Int) {
        self.store = store
        self.defaultUserLimit = defaultUserLimit
    }

    // MARK: Queues and nodes

    /// - Parameter queue: empty: every queue.
    package func queues(
        _ queue: ExactText = "", found violations: [FieldViolation] = []
    ) async throws(ServiceError) -> [QueueRecord] {
        try check(queue: queue, required: false, violations)
        return try await ServiceError.mapping { () async throws(StoreError) in
            try await store.queueStats(queue.nonEmpty?.text)
        }
    }

    /// The nodes, and of the jobs that run on them those of the caller's users.
    package func nodes(for caller: Caller) async throws(ServiceError) -> [NodeRecord] {
        try await ServiceError.mapping { () async throws(StoreError) in
            try await store.nodes(for: caller.users)
        }
    }

    /// Lets no job of the queue start until it is resumed. Running jobs go on.
    package func pause(
        queue: ExactText, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) {
        try await setPaused(true, queue, violations, caller)
    }

    package func resume(
        queue: ExactText, found violations: [FieldViolation] = [], by caller: Caller
    ) async throws(ServiceError) {
        try await setPaused(false, queue, violations, caller)
    }

    private func setPaused(
        _ isPaused: Bool, _ queue: ExactText, _ violations: [FieldViolation], _ caller: Caller
    ) async throws(ServiceError) {
        try check(queue: queue, required: true, violations)
        try await ServiceError.mapping(isWrite: true) { () async throws(StoreError) in
            try await store.setPaused(isPaused, queue: queue.text, by: caller)
        }
    }

    // MARK: Limits

    /// Sets how many jobs of a user may run at once in a queue.
    ///
    /// - Parameters:
    ///   - queue: empty: the default queue.
    ///   - limit: 0 to `JobLimits.userLimitMax`; nil: back to the queue's limit.
    package func setUserLimit(
        _ limit: Int?, userID: ExactText, queue: ExactText = "", found violations: [FieldViolation] = [],
        by caller: Caller
    ) async throws(ServiceError) -> UserLimit {
        var fields = fields(queue: queue, required: false, violations)
        fields.userID(userID, required: true)
        fields.require(
            (0...JobLimits.userLimitMax).contains(limit ?? 0), "limit", .outOfRange, "is over 100,000")
        try ServiceError.check(fields.violations)
        try caller.check(userID, "user_id")
        let queue = queue.nonEmpty?.text ?? JobLimits.defaultQueue
        return try await ServiceError.mapping(isWrite: true) { () async throws(StoreError) in
            try await store.setUserLimit(limit, userID: userID, queue: queue, by: caller)
            do throws(StoreError) {
                return try await store.userLimit(userID: userID, queue: queue, default: defaultUserLimit)
            } catch {
                throw error.afterWrite
            }
        }
    }

    /// - Parameter queue: empty: the default queue.
    package func userLimit(
        userID: ExactText, queue: ExactText = "", found violations: [FieldViolation] = [], for caller: Caller
    ) async throws(ServiceError) -> UserLimit {
        var fields = fields(queue: queue, required: false, violations)
        fields.userID(userID, required: true)
        try ServiceError.check(fields.violations)
        try caller.check(userID, "user_id")
        let queue = queue.nonEmpty?.text ?? JobLimits.defaultQueue
        return try await ServiceError.mapping { () async throws(StoreError) in
            try await store.userLimit(userID: userID, queue: queue, default: defaultUserLimit)
        }
    }

    // MARK: Checks

    private func check(
        queue: ExactText, required: Bool, _ violations: [FieldViolation]
    ) throws(ServiceError) {
        try ServiceError.check(fields(queue: queue, required: required, violations).violations)
    }

    private func fields(queue: ExactText, required: Bool, _ violations: [FieldViolation]) -> FieldCheck {
        var fields = FieldCheck(violations: violations)
        fields.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: required)
        return fields
    }
}
