import JobModel
import JobStore
import Support
import Testing

@testable import JobService

/// What callers see of jobs, and of those of others.
@Suite(.timeLimit(.minutes(2))) struct TenantTests {
    /// How every operation that names a job ends.
    private func errors(_ bench: ServiceBench, _ id: JobID, by caller: Caller) async -> [ServiceError?] {
        func error(_ body: () async throws(ServiceError) -> Void) async -> ServiceError? {
            do {
                try await body()
                return nil
            } catch {
                return error
            }
        }
        let query = WatchQuery(jobs: [.init(id: ExactText(id.description), afterSequence: 99)])
        return [
            await error { () async throws(ServiceError) in
                _ = try await bench.jobs.get(id, payload: true, for: caller)
            },
            await error { () async throws(ServiceError) in
                _ = try await bench.jobs.cancel(id, by: caller)
            },
            await error { () async throws(ServiceError) in
                _ = try await bench.jobs.retry(id, by: caller)
            },
            await error { () async throws(ServiceError) in
                var watch = try await bench.watches.begin(query, by: caller)
                defer { watch.close() }
                while try await watch.next() != nil {}
            },
        ]
    }

    @Test func aJobOfAnotherUserDoesNotExist() async throws {
        // With a quota, Retry looks at the job before it changes it.
        for limit in [nil, 100] {
            var limits = UserQuotas.Limits()
            limits.pendingJobsMax = limit
            try await ServiceBench.with(limits) { bench in
                let missing = JobID.version7(at: .now)
                #expect(
                    await errors(bench, missing, by: .of("b"))
                        == Array(repeating: .notFound(missing), count: 4))
                let id = try await bench.enqueue("a").id
                #expect(await errors(bench, id, by: .of("b")) == Array(repeating: .notFound(id), count: 4))
                #expect(
                    await errors(bench, id, by: .of("a")) == [
                        nil, nil, nil, .outOfRange(id, sequence: 3, after: 99),
                    ])
            }
        }
    }

    @Test func operationsThatNameAUser() async throws {
        try await ServiceBench.with { bench in
            let caller = Caller.of("b")
            let query = {
                var query = JobListQuery()
                query.userID = "a"
                return query
            }()
            await #expect(throws: ServiceError.userNotAllowed(field: "filter.user_id")) {
                try await bench.jobs.list(query, for: caller)
            }
            await #expect(throws: ServiceError.userNotAllowed(field: "filter.user_id")) {
                try await bench.watches.begin(WatchQuery(filter: .init(userID: "a")), by: caller)
            }
            await #expect(throws: ServiceError.userNotAllowed(field: "limit.user_id")) {
                try await bench.admin.updateUserLimit(UserLimitChange(userID: "a", maxRunning: 1), by: caller)
            }
            await #expect(throws: ServiceError.userNotAllowed(field: "user_id")) {
                try await bench.admin.userLimit(userID: "a", for: caller)
            }
            await #expect(throws: ServiceError.userNotAllowed(field: "user_id")) {
                try await bench.admin.userLimits(userID: "a", for: caller)
            }
        }
    }

    /// Results take `jobs.read`, names of nodes `admin`.
    @Test func partsOfAJobThatACallerMayNotSee() async throws {
        try await ServiceBench.with { bench in
            let draft = JobSpecDraft.of("a") { $0.idempotencyKey = "key" }
            let id = try await bench.jobs.enqueue(draft, by: .root).job.id
            try await bench.run()
            for (mayRead, seesNodes) in [(true, true), (true, false), (false, true)] {
                let caller = Caller.named("c", .all, mayRead: mayRead, seesNodes: seesNodes)
                let seen = [
                    try await bench.jobs.enqueue(draft, by: caller).job,
                    try await bench.jobs.get(id, payload: false, for: caller),
                    try await bench.jobs.cancel(id, by: caller),
                ]
                #expect(seen.allSatisfy { $0.state == .succeeded && ($0.result != nil) == mayRead })
                #expect(seen[1].attempts.map(\.node) == [seesNodes ? "one" : ""])
            }
        }
    }
}
