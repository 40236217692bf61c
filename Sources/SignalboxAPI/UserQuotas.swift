import JobModel
package import JobStore
import GRPC
import Support
import Synchronization

/// What each user may have and do at most, whoever calls for it. Off unless set; then nothing of it is kept or asked.
package final class UserQuotas: Sendable {
    package struct Limits: Sendable {
        /// Jobs that wait, and bytes of their payloads, over all nodes.
        package var pendingJobsMax: Int?
        package var pendingBytesMax: Int?
        /// On this node.
        package var enqueuesPerSecond: Int?
        package var watchesMax: Int?

        package init() {}
    }

    /// What a call wants to add, by user: each is named once.
    struct Demand: Sendable {
        let users: [(user: ExactText, amount: PendingQuota.Amount)]

        init(_ jobs: [NewJob]) {
            var byUser: [ExactText: PendingQuota.Amount] = [:]
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
        var questions = PendingQuestions<CheckedContinuation<Result<Void, StoreError>, Never>>()
    }

    /// How many jobs one statement looks at, and about how many users it asks, which together may have that many. It takes
    /// half a second to count a million and, with their payloads, a second for a quarter of that.
    private static let jobsPerQuestion = 1_000_000
    private static let jobsPerQuestionWithBytes = 250_000
    /// Each may have 10,000 lanes, and to look into those takes 18 ms.
    private static let usersPerQuestionMax = 50
    /// Nobody knows when there will be room: what a job or a watch takes is over when it is over.
    private static let retryDelay: Duration = .seconds(1)

    private let store: JobStore
    private let withBytes: Bool
    private let usersPerQuestion: Int
    /// What is over when too many jobs wait: who limits only their bytes has them counted all the same.
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
        let jobsPerQuestion =
            limits.pendingBytesMax == nil ? Self.jobsPerQuestion : Self.jobsPerQuestionWithBytes
        usersPerQuestion = max(1, min(Self.usersPerQuestionMax, jobsPerQuestion / jobsMax))
        state = Mutex(
            State(
                rate: limits.enqueuesPerSecond.map { EnqueueRate(jobsPerSecond: $0) },
                pending: limitsPending
                    ? PendingQuota(jobsMax: jobsMax, bytesMax: limits.pendingBytesMax ?? .max) : nil,
                watches: limits.watchesMax.map { WatchQuota(watchesMax: $0) }))
    }

    // MARK: Jobs

    /// Lets a call add its jobs, all or none, or throws the status that refuses them. `settle` is to be called then.
    /// False: it takes a question to the database to know (`admit`).
    func admitAtOnce(_ demand: Demand) throws -> Bool {
        try decide(on: demand, asked: []).isEmpty
    }

    /// The same, with the question where it takes one.
    func admit(_ demand: Demand) async throws {
        var asked: Set<ExactText> = []
        // About each user once; unless the answer was so late that it is forgotten already.
        while true {
            let users = try decide(on: demand, asked: asked)
            guard !users.isEmpty else { return }
            try await ask(about: users)
            try Task.checkCancellation()
            asked.formUnion(users)
        }
    }

    /// It is known what became of jobs that were let in. Where it is not, they were added.
    func settle(_ demand: Demand, wereAdded: Bool) {
        state.withLock { state in
            for (user, amount) in demand.users {
                state.pending?.settle(amount, of: user, wereAdded: wereAdded)
            }
        }
    }

    func settle(_ demand: Demand, _ enqueued: Result<Enqueued, StoreError>) {
        switch enqueued {
        case .success(let enqueued): settle(demand, wereAdded: enqueued.isNew)
        case .failure(let error): settle(demand, wereAdded: Self.mayHaveAdded(error))
        }
    }

    /// Calls `body` if its jobs are let in.
    func admitting<R>(
        _ demand: @autoclosure () -> Demand, wereAdded: (R) -> Bool, _ body: () async throws -> R
    ) async throws -> R {
        guard limitsEnqueues else { return try await body() }
        let demand = demand()
        try await admit(demand)
        do {
            let result = try await body()
            settle(demand, wereAdded: wereAdded(result))
            return result
        } catch {
            settle(demand, wereAdded: Self.mayHaveAdded(error))
            throw error
        }
    }

    private static func mayHaveAdded(_ error: any Error) -> Bool {
        if case .unavailable? = error as? StoreError { true } else { false }
    }

    /// The users about whom the database is to be asked first. None: they are let in.
    private func decide(on demand: Demand, asked: Set<ExactText>) throws -> [ExactText] {
        try state.withLock { state throws -> [ExactText] in
            let now = ContinuousClock.now
            for (user, amount) in demand.users {
                switch state.rate?.verdict(on: amount.jobs, of: user, now: now) {
                case .allowed, nil: break
                case .refused(let delay): throw Self.refusal(.rate, user, retryAfter: delay)
                case .tooMany: throw Self.refusal(.rate, user, retryAfter: nil)
                }
            }
            var unknown: [ExactText] = []
            for (user, amount) in demand.users {
                let wasAsked = asked.contains(user)
                switch state.pending?.verdict(on: amount, of: user, now: now, wasAsked: wasAsked) {
                case .allowed, nil: break
                case .ask: unknown.append(user)
                case .refused(let limit):
                    throw Self.refusal(quota(of: limit), user, retryAfter: Self.retryDelay)
                case .tooMany(let limit): throw Self.refusal(quota(of: limit), user, retryAfter: nil)
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

    /// However many calls ask, one statement runs at a time.
    private func ask(about users: [ExactText]) async throws(StoreError) {
        let result = await withCheckedContinuation { continuation in
            if state.withLock({ $0.questions.add(continuation, about: users) }) {
                Task { await self.answerAll() }
            }
        }
        try result.get()
    }

    private func answerAll() async {
        while let users = state.withLock({ $0.questions.next(usersMax: usersPerQuestion) }) {
            let result: Result<Void, StoreError>
            do throws(StoreError) {
                result = .success(try await answer(users))
            } catch {
                result = .failure(error)
            }
            let isGood = if case .success = result { true } else { false }
            let askers = state.withLock { $0.questions.answered(users, isGood: isGood) }
            for asker in askers { asker.resume(returning: result) }
        }
    }

    private func answer(_ users: [ExactText]) async throws(StoreError) {
        // As old as the statement: what has come since may not be in it.
        let askedAt = ContinuousClock.now
        let jobsMax = state.withLock { state in
            for user in users { state.pending?.willAsk(about: user) }
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

    /// A watch that counts for each of some users, until it is closed.
    final class Watch: Sendable {
        private let quotas: UserQuotas
        private let users: [ExactText]

        fileprivate init(_ quotas: UserQuotas, _ users: [ExactText]) {
            self.quotas = quotas
            self.users = users
        }

        /// Called once.
        func close() {
            quotas.state.withLock { $0.watches?.close(for: users) }
        }
    }

    /// Nil where watches are not limited, or this one is nobody's. Throws the status that refuses it.
    func openWatch(of users: some Sequence<ExactText>) throws -> Watch? {
        guard limitsWatches else { return nil }
        let users = Array(Set(users))
        if let full = state.withLock({ $0.watches?.open(for: users) }) {
            throw Self.refusal(.watches, full, retryAfter: Self.retryDelay)
        }
        return Watch(self, users)
    }

    // MARK: Refusals

    /// By the names of the settings.
    private enum Quota: String {
        case pendingJobs = "max-pending-per-user"
        case pendingBytes = "max-pending-payload-per-user"
        case rate = "enqueue-rate-per-user"
        case watches = "max-watches-per-user"

        var isOver: String {
            switch self {
            case .pendingJobs: "as many jobs wait as the user may have"
            case .pendingBytes: "the jobs that wait have as many bytes of payload as the user may have"
            case .rate: "the user's jobs come faster than they may"
            case .watches: "as many watches are open as the user may have"
            }
        }
    }

    private func quota(of limit: PendingQuota.Limit) -> Quota {
        switch limit {
        case .jobs: quotaOfJobs
        case .bytes: .pendingBytes
        }
    }

    /// - Parameter delay: nil: it would be refused at any time.
    private static func refusal(_ quota: Quota, _ user: ExactText, retryAfter delay: Duration?) -> Status {
        let reason = delay == nil ? "that is more than the user may ever have at once" : quota.isOver
        return StatusMapping.exhausted(
            "\(reason) (\(quota.rawValue))", subject: "user:\(user.text)", retryDelay: delay)
    }
}
