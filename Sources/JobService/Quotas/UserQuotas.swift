import JobModel
package import JobStore
import Support
import Synchronization

/// The quotas of each user: jobs that are pending, bytes of their payloads, enqueued jobs per second, open watches. A
/// quota that is not set costs nothing.
package final class UserQuotas: Sendable {
    package struct Limits: Sendable {
        /// Pending jobs, and bytes of their payloads, over all nodes.
        package var pendingJobsMax: Int?
        package var pendingBytesMax: Int?
        /// On this node.
        package var enqueuesPerSecond: Int?
        package var watchesMax: Int?

        package init() {}
    }

    /// The jobs that a call wants to add, with one entry for each user.
    struct Demand: Sendable {
        let users: [(user: ExactText, amount: PendingAmount)]

        init(_ jobs: [NewJob]) {
            var byUser: [ExactText: PendingAmount] = [:]
            for job in jobs {
                byUser[job.spec.userID, default: .zero] += .init(
                    jobs: 1, bytes: job.spec.payload.count)
            }
            users = byUser.map { ($0.key, $0.value) }
        }

        init(_ userID: ExactText, payloadBytes: Int) {
            users = [(userID, .init(jobs: 1, bytes: payloadBytes))]
        }
    }

    private struct State {
        var rate: EnqueueRate?
        var pending: PendingQuota?
        var watches: WatchQuota?
        var lookups = PendingLookups<CheckedContinuation<Result<Void, StoreError>, Never>>()
    }

    /// The number of jobs that one query looks at, which bounds the users that it is about. Counting a million takes half a
    /// second; summing up the payloads of a quarter of that takes a second.
    private static let jobsPerLookup = 1_000_000
    private static let jobsPerLookupWithBytes = 250_000
    /// Each user may have 10,000 lanes, and looking into those takes 18 ms.
    private static let usersPerLookupMax = 50
    /// It is not known when there will be room: a job or a watch ends at its own time.
    private static let retryDelay: Duration = .seconds(1)

    private let store: JobStore
    private let withBytes: Bool
    private let usersPerLookup: Int
    /// The quota to name when too many jobs are pending. Where only bytes are limited, jobs are bounded all the same,
    /// because each of them has to be looked at.
    private let quotaOfJobs: Quota
    let limitsEnqueues: Bool
    let limitsWatches: Bool
    private let state: Mutex<State>

    package init(store: JobStore, limits: Limits) {
        self.store = store
        withBytes = limits.pendingBytesMax != nil
        quotaOfJobs = limits.pendingJobsMax == nil ? .pendingBytes : .pendingJobs
        let limitsPending = limits.pendingJobsMax != nil || limits.pendingBytesMax != nil
        limitsEnqueues = limitsPending || limits.enqueuesPerSecond != nil
        limitsWatches = limits.watchesMax != nil
        let jobsMax = min(limits.pendingJobsMax ?? .max, JobLimits.pendingQuotaMax)
        let jobsPerLookup =
            limits.pendingBytesMax == nil ? Self.jobsPerLookup : Self.jobsPerLookupWithBytes
        usersPerLookup = max(1, min(Self.usersPerLookupMax, jobsPerLookup / jobsMax))
        state = Mutex(
            State(
                rate: limits.enqueuesPerSecond.map { EnqueueRate(jobsPerSecond: $0) },
                pending: limitsPending
                    ? PendingQuota(jobsMax: jobsMax, bytesMax: limits.pendingBytesMax ?? .max) : nil,
                watches: limits.watchesMax.map { WatchQuota(watchesMax: $0) }))
    }

    // MARK: Jobs

    /// The demand of a job on the quotas; nil where no quota limits jobs.
    func demand(of job: NewJob) -> Demand? {
        limitsEnqueues ? Demand(job.spec.userID, payloadBytes: job.spec.payload.count) : nil
    }

    func demand(of jobs: [NewJob]) -> Demand? {
        limitsEnqueues ? Demand(jobs) : nil
    }

    /// Admits the jobs of a call, all or none; throws `quotaExceeded` if they are refused. Once they are admitted,
    /// `settle` has to be called. False: the database has to be asked (`admit`).
    func admitAtOnce(_ demand: Demand?) throws(ServiceError) -> Bool {
        guard let demand else { return true }
        return try decide(on: demand, asked: []).isEmpty
    }

    /// Admits the jobs of a call as `admitAtOnce` does, and asks the database where that is necessary.
    func admit(_ demand: Demand?) async throws(ServiceError) {
        guard let demand else { return }
        var asked: Set<ExactText> = []
        // About each user once, unless the answer came so late that it is forgotten already.
        while true {
            let users = try decide(on: demand, asked: asked)
            guard !users.isEmpty else { return }
            try await ask(about: users)
            if Task.isCancelled { throw .cancelled }
            asked.formUnion(users)
        }
    }

    /// Records what became of jobs that were admitted. Where that is not known, they count as added.
    func settle<R>(_ demand: Demand?, _ result: Result<R, StoreError>, wereAdded: (R) -> Bool) {
        guard let demand else { return }
        let isAdded =
            switch result {
            case .success(let value): wereAdded(value)
            case .failure(.unavailable): true
            case .failure: false
            }
        state.withLock { state in
            for (user, amount) in demand.users {
                state.pending?.settle(amount, of: user, wereAdded: isAdded)
            }
        }
    }

    /// The users about whom the database has to be asked first. If there are none, the jobs are admitted.
    private func decide(on demand: Demand, asked: Set<ExactText>) throws(ServiceError) -> [ExactText] {
        try state.withLock { state throws(ServiceError) -> [ExactText] in
            let now = ContinuousClock.now
            for (user, amount) in demand.users {
                switch state.rate?.verdict(on: amount.jobs, of: user, now: now) {
                case .allowed, nil: break
                case .refused(let delay): throw .quotaExceeded(.rate, user: user, retryAfter: delay)
                case .tooMany: throw .quotaExceeded(.rate, user: user, retryAfter: nil)
                }
            }
            var unknown: [ExactText] = []
            for (user, amount) in demand.users {
                let wasLookedUp = asked.contains(user)
                switch state.pending?.verdict(on: amount, of: user, now: now, wasLookedUp: wasLookedUp) {
                case .allowed, nil: break
                case .ask: unknown.append(user)
                case .refused(let limit):
                    throw .quotaExceeded(quota(of: limit), user: user, retryAfter: Self.retryDelay)
                case .tooMany(let limit): throw .quotaExceeded(quota(of: limit), user: user, retryAfter: nil)
                }
            }
            guard unknown.isEmpty else { return unknown }
            for (user, amount) in demand.users {
                state.rate?.take(amount.jobs, of: user, now: now)
                state.pending?.take(amount, of: user)
            }
            return []
        }
    }

    private func quota(of limit: PendingQuota.Limit) -> Quota {
        switch limit {
        case .jobs: quotaOfJobs
        case .bytes: .pendingBytes
        }
    }

    /// Waits for what the database says about the users. One query is in flight at a time, however many calls ask.
    private func ask(about users: [ExactText]) async throws(ServiceError) {
        let result = await withCheckedContinuation { continuation in
            if state.withLock({ $0.lookups.add(continuation, about: users) }) {
                Task { await self.answerAll() }
            }
        }
        if case .failure(let error) = result { throw ServiceError(error) }
    }

    private func answerAll() async {
        while let users = state.withLock({ $0.lookups.next(usersMax: usersPerLookup) }) {
            let result: Result<Void, StoreError>
            do throws(StoreError) {
                result = .success(try await answer(users))
            } catch {
                result = .failure(error)
            }
            let isGood = if case .success = result { true } else { false }
            let waiters = state.withLock { $0.lookups.answered(users, isGood: isGood) }
            for waiter in waiters { waiter.resume(returning: result) }
        }
    }

    private func answer(_ users: [ExactText]) async throws(StoreError) {
        // The answer is as old as its statement: a job that was added since may be missing in it.
        let askedAt = ContinuousClock.now
        let jobsMax = state.withLock { state in
            for user in users { state.pending?.willQuery(about: user) }
            return state.pending?.jobsMax ?? 0
        }
        let amounts = try await store.pending(of: users.map(\.text), jobsMax: jobsMax, withBytes: withBytes)
        state.withLock { state in
            for user in users {
                state.pending?.answer(amounts[user] ?? .zero, about: user, askedAt: askedAt)
            }
            state.pending?.tidy(now: askedAt)
        }
    }

    // MARK: Watches

    /// Counts a watch against the users. Throws `quotaExceeded` if one of them has too many.
    ///
    /// - Returns: what to call once when the watch is closed; nil where watches are not limited.
    func openWatch(of users: some Sequence<ExactText>) throws(ServiceError) -> (@Sendable () -> Void)? {
        guard limitsWatches else { return nil }
        let users = Array(Set(users))
        if let full = state.withLock({ $0.watches?.open(for: users) }) {
            throw .quotaExceeded(.watches, user: full, retryAfter: Self.retryDelay)
        }
        return { self.state.withLock { $0.watches?.close(for: users) } }
    }
}
