import JobModel
import Support
import Testing

@testable import JobStore

/// What is of a user for whom the caller may not act is not there, for any method of the store.
@Suite struct UserScopeTests {
    private func caller(_ users: UserScope) -> Caller {
        Caller(name: "c", source: .token, address: "a:1", users: users)
    }

    private func refusal(_ body: () async throws -> Void) async -> StoreError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? StoreError
        }
    }

    /// What every method of the store says to a caller of a job.
    private func answers(_ bench: Bench, _ id: JobID, _ users: UserScope) async throws -> [String] {
        let store = bench.store
        var answers = [
            "\(try await store.job(id, for: users) as Any)",
            "\(try await store.jobWithHistory(id, for: users, payload: true) as Any)",
            "\(try await store.jobs([id], for: users, resultBytesMax: 10))",
            "\(try await store.locators(of: [id], for: users))",
            "\(try await store.payloadSize(id, for: users) as Any)",
        ]
        for change in [
            { _ = try await store.cancel(id, note: "r", by: caller(users)) },
            { _ = try await store.retry(id, by: caller(users)) },
        ] as [() async throws -> Void] {
            answers.append("\(await refusal(change) as Any)")
        }
        return answers
    }

    /// A job in each state, of a user.
    private func jobs(_ bench: Bench, of user: String) async throws -> [JobID] {
        let succeeded = try await bench.start(JobSpec(kind: "k", userID: ExactText(user), payload: [1]))
        try await bench.finish(succeeded, .success)
        let failed = try await bench.start(JobSpec(kind: "k", userID: ExactText(user), payload: [1]))
        try await bench.finish(failed, .failure)
        let running = try await bench.start(JobSpec(kind: "k", userID: ExactText(user), payload: [1]))
        let waiting = try await bench.enqueue(JobSpec(kind: "k", userID: ExactText(user), payload: [1]))
        let later = try await bench.enqueue(
            JobSpec(kind: "k", userID: ExactText(user), payload: [1], due: .after(.seconds(1000))))
        return [succeeded.key.id, failed.key.id, running.key.id, waiting.id, later.id]
    }

    @Test func jobOfAnotherUserIsNotThere() async throws {
        try await Bench.with { bench in
            let unknown = JobID("0197a0de-0000-4000-8000-000000000bad")!
            for users in [UserScope.only(["b"]), .only([]), .only(["a\0", "A", "b"])] {
                let missing = try await answers(bench, unknown, users)
                for id in try await jobs(bench, of: "a") {
                    let before = try await bench.store.jobWithHistory(id, payload: true)
                    let entries = try await bench.count("audit_entry")
                    #expect(try await answers(bench, id, users) == missing)
                    #expect(try await bench.store.jobWithHistory(id, payload: true) == before)
                    #expect(try await bench.count("audit_entry") == entries)
                }
                #expect(missing.last == "Optional(JobModel.StoreError.notFound)")
            }
        }
    }

    @Test(arguments: [UserScope.all, .only(["a"]), .only(["b", "a", "c"])])
    func jobOfOnesOwnIs(_ users: UserScope) async throws {
        try await Bench.with { bench in
            let ids = try await jobs(bench, of: "a")
            for id in ids {
                let job = try #require(try await bench.store.jobWithHistory(id, for: users, payload: true))
                #expect(job.id == id && job.spec.payload == [1])
                #expect(try await bench.store.locators(of: [id], for: users)[id]?.userID == "a")
                #expect(try await bench.store.payloadSize(id, for: users)?.bytes == 1)
            }
            let retried = try await bench.store.retry(ids[1], by: caller(users))
            #expect(retried.state == .pending)
            #expect(try await bench.store.cancel(ids[3], note: "", by: caller(users)).state == .cancelled)
            #expect(try await bench.store.cancel(ids[2], note: "", by: caller(users)).cancelRequested)
        }
    }

    /// Of many that are asked for at once, those that are allowed.
    @Test func someOfManyJobs() async throws {
        try await Bench.with { bench in
            var ids: [JobID] = []
            for user in ["a", "b", "c"] {
                ids.append(try await bench.enqueue(JobSpec(kind: "k", userID: ExactText(user))).id)
            }
            let users = UserScope.only(["a", "c"])
            #expect(Set(try await bench.store.locators(of: ids, for: users).keys) == [ids[0], ids[2]])
            let jobs = try await bench.store.jobs(ids, for: users, resultBytesMax: 0)
            #expect(Set(jobs.map(\.id)) == [ids[0], ids[2]])
        }
    }

    /// As users they are two, though Swift calls the texts equal.
    @Test func anotherSpellingIsAnotherUser() async throws {
        try await Bench.with { bench in
            let (one, other) = ("\u{E9}", "e\u{301}")
            let mine = try await bench.enqueue(
                JobSpec(kind: "k", userID: ExactText(one), idempotencyKey: "key"))
            let theirs = try await bench.enqueue(
                JobSpec(kind: "k", userID: ExactText(other), idempotencyKey: "key"))
            #expect(mine.id != theirs.id)
            #expect(try await bench.count("lane") == 2)
            #expect(try await bench.store.job(theirs.id, for: .only([ExactText(one)])) == nil)
            for (user, id) in [(one, mine.id), (other, theirs.id)] {
                let users = UserScope.only([ExactText(user)])
                #expect(
                    try await bench.store.snapshotJobs(of: users, queue: nil, after: 0).jobs.map(\.id) == [id]
                )
                let page = try await bench.store.list(JobFilter(), for: users, before: nil, size: 10)
                #expect(page.jobs.map(\.id) == [id])
                #expect(
                    try await bench.store.pending(of: [user], jobsMax: 10, withBytes: false)[ExactText(user)]?
                        .jobs == 1)
            }
            // Nor after a claim, which knows the user by the lane.
            for run in try await bench.claim() {
                #expect(run.spec.userID == ExactText(run.key.id == mine.id ? one : other))
            }
        }
    }

    // MARK: Lists

    /// Every page from the newest on.
    private func pages(
        _ bench: Bench, _ filter: JobFilter, _ users: UserScope, size: Int, scannedMax: Int64
    ) async throws -> (jobs: [JobRecord], pages: Int) {
        var all: [JobRecord] = []
        var before: Int64?
        var count = 0
        repeat {
            let page = try await bench.store.list(
                filter, for: users, before: before, size: size, scannedMax: scannedMax)
            #expect(page.jobs.count <= size)
            if let before, let next = page.next { #expect(next < before) }
            all += page.jobs
            before = page.next
            count += 1
        } while before != nil && count < 1000
        return (all, count)
    }

    @Test(arguments: [1, 3, 100] as [Int], [2, 7, 10_000] as [Int64])
    func listOfSeveralUsers(_ size: Int, _ scannedMax: Int64) async throws {
        try await Bench.with { bench in
            // One has most of the jobs, and those that match are few.
            let specs = (0..<60).map { number in
                JobSpec(
                    kind: number % 5 == 0 ? "rare" : "k",
                    userID: number % 4 == 0 ? "a" : number % 7 == 0 ? "b" : "busy",
                    queue: number % 2 == 0 ? "p" : "q")
            }
            var jobs: [JobRecord] = []
            for spec in specs { jobs.append(try await bench.enqueue(spec)) }
            for users in [["a", "b"], ["a", "busy"], ["a", "b", "busy", "nobody"], ["nobody", "else"]] {
                for change in [
                    { _ in }, { $0.kinds = ["rare"] }, { $0.queue = "q" }, { $0.states = [.succeeded] },
                    { $0.userID = ExactText(users[0]) },
                ] as [(inout JobFilter) -> Void] {
                    var filter = JobFilter()
                    change(&filter)
                    let wanted = jobs.filter { job in
                        users.contains(job.spec.userID.text)
                            && (filter.kinds.isEmpty || filter.kinds.contains(job.spec.kind))
                            && (filter.queue.map { $0 == job.spec.queue } ?? true) && filter.states.isEmpty
                            && (filter.userID.map { $0 == job.spec.userID } ?? true)
                    }
                    let found = try await pages(
                        bench, filter, .only(Set(users.map(ExactText.init(_:)))), size: size,
                        scannedMax: scannedMax)
                    #expect(found.jobs.map(\.id) == wanted.map(\.id).reversed(), "\(users) \(filter)")
                }
            }
        }
    }

    @Test func listOfNoUserAndOfOthers() async throws {
        try await Bench.with { bench in
            try await bench.enqueue(JobSpec(kind: "k", userID: "a"))
            var filter = JobFilter()
            for users in [UserScope.only([]), .only(["b"]), .only(["b", "c"])] {
                #expect(try await bench.store.list(filter, for: users, before: nil, size: 10).jobs.isEmpty)
            }
            filter.userID = "a"
            for users in [UserScope.only([]), .only(["b"]), .only(["b", "c"])] {
                let page = try await bench.store.list(filter, for: users, before: nil, size: 10)
                #expect(page.jobs.isEmpty && page.next == nil)
            }
            #expect(try await bench.store.list(filter, for: .all, before: nil, size: 10).jobs.count == 1)
        }
    }

    /// What is older than the time asked for is not looked through, for several users either.
    @Test func listOfSeveralEndsAtTheTimeAskedFor() async throws {
        try await Bench.with { bench in
            for user in ["a", "b"] {
                for _ in 0..<20 { try await bench.enqueue(JobSpec(kind: "k", userID: ExactText(user))) }
            }
            try await bench.script(
                """
                ALTER TABLE job DISABLE TRIGGER job_immutable;
                UPDATE job SET created_at = created_at - interval '1 hour'
                """)
            let new = try await bench.enqueue(JobSpec(kind: "k", userID: "a"))
            var filter = JobFilter()
            filter.createdFrom = new.createdAt
            let found = try await pages(bench, filter, .only(["a", "b"]), size: 5, scannedMax: 8)
            #expect(found.jobs.map(\.id) == [new.id] && found.pages == 1)
        }
    }

    // MARK: What is live, and who is there

    @Test(arguments: [1, 50_000] as [Int64])
    func snapshotOfAQueueForSome(_ scannedMax: Int64) async throws {
        try await Bench.with { bench in
            var ids: [String: [JobID]] = [:]
            for number in 0..<12 {
                let user = ["a", "b", "c"][number % 3]
                let job = try await bench.enqueue(
                    JobSpec(kind: "k", userID: ExactText(user), queue: number % 4 == 0 ? "other" : "q"))
                if number % 4 != 0 { ids[user, default: []].append(job.id) }
            }
            for users in [["a"], ["a", "b"], ["nobody"], [], ["a", "b", "c"]] {
                var seen: [JobID] = []
                var after: Int64? = 0
                while let from = after {
                    let page = try await bench.store.snapshotJobs(
                        of: .only(Set(users.map(ExactText.init(_:)))), queue: "q", after: from,
                        scannedMax: scannedMax)
                    seen += page.jobs.map(\.id)
                    after = page.next
                }
                #expect(Set(seen) == Set(users.flatMap { ids[$0] ?? [] }) && Set(seen).count == seen.count)
            }
            let all = try await bench.store.snapshotJobs(of: .all, queue: "q", after: 0)
            #expect(all.jobs.count == 9)
        }
    }

    @Test func nodesNameOnlyWhatIsAllowed() async throws {
        try await Bench.with { bench in
            let mine = try await bench.start(JobSpec(kind: "k", userID: "a"))
            let theirs = try await bench.start(JobSpec(kind: "k", userID: "b"))
            for (users, jobs) in [
                (UserScope.all, [mine.key.id, theirs.key.id]), (.only(["a"]), [mine.key.id]), (.only([]), []),
            ] {
                let node = try #require(
                    try await bench.store.nodes(for: users, before: nil, size: 1).items.first)
                #expect(node.runningJobs == jobs && node.running == 2)
            }
        }
    }
}
