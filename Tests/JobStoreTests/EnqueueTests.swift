import JobModel
import Postgres
import Support
import Testing

@testable import JobStore

@Suite struct EnqueueTests {
    private static let id = JobID("0197a0de-0000-4000-8000-00000000abcd")!

    private func conflict(_ body: () async throws -> Void) async -> (JobID, Int)? {
        do {
            try await body()
            return nil
        } catch {
            if case .conflict(let id, let index)? = error as? StoreError { return (id, index) }
            return nil
        }
    }

    @Test func keepsWhatWasAskedFor() async throws {
        try await Bench.with { bench in
            let spec = JobSpec(
                kind: "k", userID: "ada 😀", queue: "audio", payload: (0...255).map { UInt8($0) },
                contentType: "application/x", idempotencyKey: "key", priority: -7, due: .after(.zero),
                maxAttempts: 9,
                retryPolicy: RetryPolicy(
                    initialDelay: .milliseconds(1), factor: 1.5, maxDelay: .seconds(2), jitter: 0.25),
                timeout: .seconds(20), softTimeout: .seconds(10), labels: ["é": "\"quoted\"", "b": ""])
            let new = try await bench.store.enqueue(NewJob(spec: spec, now: .now))
            #expect(new.isNew)
            let found = try #require(await bench.store.jobWithHistory(new.job.id, payload: true))
            #expect(
                found.spec
                    == {
                        var spec = spec; spec.due = found.spec.due; return spec
                    }())
            #expect(found.state == .pending && found.sequence == 1 && found.attempt == 0)
            #expect(found.createdAt == new.job.createdAt && found.dueAt == new.job.dueAt)
            #expect(found.number == new.job.number)
            #expect(try await bench.store.numbers(of: [new.job.id, Self.id]) == [new.job.id: new.job.number])
            let events = bench.changes.events(of: new.job.id)
            #expect(events.map(\.type) == [.enqueued])
            #expect(try await bench.store.events(after: [new.job.number: 0]) == [new.job.number: events])
        }
    }

    /// Lanes and queues stay: a job that is refused adds none.
    @Test func whatIsRefusedLeavesNothingBehind() async throws {
        try await Bench.with { bench in
            let store = bench.store
            _ = try await store.enqueue(
                NewJob(spec: JobSpec(kind: "k", userID: "u", jobID: Self.id), now: .now))
            let keyed = JobSpec(kind: "k", userID: "u", idempotencyKey: "key")
            let key = try await store.enqueue(NewJob(spec: keyed, now: .now)).job.id
            let other = try await bench.peer()
            let user = NewJob(spec: JobSpec(kind: "k", userID: "v", jobID: Self.id), now: .now)
            let queue = NewJob(
                spec: JobSpec(kind: "k", userID: "u", queue: "q", idempotencyKey: "key"), now: .now)
            let fresh = NewJob(spec: JobSpec(kind: "k", userID: "w"), now: .now)
            for store in [store, other] {
                #expect(await conflict { _ = try await store.enqueue(user) } ?? (key, 9) == (Self.id, 0))
                #expect(await conflict { _ = try await store.enqueue(queue) } ?? (Self.id, 9) == (key, 0))
                #expect(
                    await conflict { _ = try await store.enqueueBatch([fresh, user, queue]) } ?? (key, 9)
                        == (Self.id, 1))
                #expect(
                    await conflict { _ = try await store.enqueueBatch([fresh, queue]) } ?? (Self.id, 9)
                        == (key, 1))
            }
            #expect(try await bench.texts("SELECT user_id FROM lane") == ["u"])
            #expect(try await bench.texts("SELECT name FROM queue") == ["default"])
            // What shares a commit with one that is refused is added, and what was there is given back.
            let again = NewJob(spec: keyed, now: .now)
            let outcomes = try await bench.database.run("commit") { connection throws(PostgresError) in
                try other.commitEnqueues([user, again, fresh, queue], connection)
            }
            guard case .failure(.conflict(Self.id, 0)) = outcomes[0],
                case .success(.existing(key, sequence: 1)) = outcomes[1], case .success(.new) = outcomes[2],
                case .failure(.conflict(key, 0)) = outcomes[3]
            else {
                Issue.record("\(outcomes)")
                return
            }
            #expect(try await bench.texts("SELECT user_id FROM lane ORDER BY 1") == ["u", "w"])
            #expect(try await bench.texts("SELECT name FROM queue") == ["default"])
        }
    }

    /// 1,000 calls at once, of which 300 repeat the id or the key of another.
    @Test func manyAtOnceShareCommits() async throws {
        try await Bench.with { bench in
            let specs = (0..<1000).map { number -> JobSpec in
                let user = "u\(number % 10)"
                switch number {
                case 0..<700:
                    return JobSpec(kind: "k", userID: ExactText(user), idempotencyKey: "key\(number)")
                case 700..<850:
                    return JobSpec(kind: "k", userID: ExactText(user), idempotencyKey: "key\(number - 700)")
                default:
                    return JobSpec(
                        kind: "k", userID: "u",
                        jobID: JobID.version7(milliseconds: 1, random: (0, UInt64(number / 2))))
                }
            }
            let enqueued = try await withThrowingTaskGroup(of: Enqueued.self) { group in
                for spec in specs {
                    group.addTask { try await bench.store.enqueue(NewJob(spec: spec, now: .now)) }
                }
                return try await group.reduce(into: [Enqueued]()) { $0.append($1) }
            }
            #expect(enqueued.count { $0.isNew } == 775)
            #expect(Set(enqueued.map(\.job.id)).count == 775)
            #expect(try await bench.count("job") == 775)
            #expect(try await bench.count("live WHERE state = 'ready' AND sequence = 1") == 775)
            let commits = try await bench.count("change")
            #expect(commits >= 1 && commits < 500)
            #expect(bench.changes.all.count == 775)
        }
    }

    @Test func sameIDOrKeyGivesTheFirstJobBack() async throws {
        try await Bench.with { bench in
            for spec in [
                JobSpec(kind: "k", userID: "u", payload: [1], jobID: Self.id),
                JobSpec(
                    kind: "k", userID: "u", payload: [1], idempotencyKey: "a", labels: ["x": "1", "y": "2"]),
            ] {
                let first = try await bench.store.enqueue(NewJob(spec: spec, now: .now))
                let second = try await bench.store.enqueue(NewJob(spec: spec, now: .now))
                #expect(first.isNew && !second.isNew)
                #expect(first.job.id == second.job.id)
                var other = spec
                other.payload = [2]
                let answer = await conflict {
                    _ = try await bench.store.enqueue(NewJob(spec: other, now: .now))
                }
                #expect(answer?.0 == first.job.id)
            }
            #expect(try await bench.count("job") == 2)
        }
    }

    @Test func keyIsTheUsersOwn() async throws {
        try await Bench.with { bench in
            for user in ["a", "b"] {
                let spec = JobSpec(kind: "k", userID: ExactText(user), idempotencyKey: "same")
                let answer = try await bench.store.enqueue(NewJob(spec: spec, now: .now))
                #expect(answer.isNew)
            }
        }
    }

    /// An id that the service made up belongs to no request that could be repeated.
    @Test func madeUpIDCannotBeClaimedByARequest() async throws {
        try await Bench.with { bench in
            let first = try await bench.enqueue()
            var spec = JobSpec(kind: "k", userID: "u")
            spec.jobID = first.id
            let answer = await conflict { [spec] in
                _ = try await bench.store.enqueue(NewJob(spec: spec, now: .now))
            }
            #expect(answer?.0 == first.id)
        }
    }

    @Test func everyFieldMakesADifference() async throws {
        try await Bench.with { bench in
            let spec = JobSpec(kind: "k", userID: "u", jobID: Self.id)
            _ = try await bench.enqueue(spec)
            let changes: [(inout JobSpec) -> Void] = [
                { $0.kind = "k2" }, { $0.userID = "u2" }, { $0.queue = "q" }, { $0.payload = [1] },
                { $0.contentType = "text/plain" }, { $0.priority = 1 },
                { $0.due = .after(.seconds(1)) }, { $0.due = .at(Timestamp(microseconds: 0)) },
                { $0.maxAttempts = 1 }, { $0.retryPolicy.initialDelay = .zero },
                { $0.retryPolicy.factor = 3 },
                { $0.retryPolicy.maxDelay = .zero }, { $0.retryPolicy.jitter = 1 },
                { $0.timeout = .seconds(1) }, { $0.softTimeout = .seconds(1) }, { $0.labels = ["a": ""] },
            ]
            for (index, change) in changes.enumerated() {
                var other = spec
                change(&other)
                let job = NewJob(spec: other, now: .now)
                #expect(
                    await conflict { _ = try await bench.store.enqueue(job) }?.0 == Self.id, "change \(index)"
                )
            }
        }
    }

    /// The key is no part of the content, although the digest covers it.
    @Test func anotherKeyForTheSameContent() async throws {
        try await Bench.with { bench in
            let store = bench.store
            for (number, key) in (["a", nil] as [ExactText?]).enumerated() {
                let id = JobID.version7(at: .now)
                let spec = JobSpec(kind: "k", userID: "u", jobID: id, idempotencyKey: key, priority: number)
                #expect(try await store.enqueue(NewJob(spec: spec, now: .now)).isNew)
                for other in ["a\(number)", "b\(number)", nil] as [ExactText?] {
                    var again = spec
                    again.idempotencyKey = other
                    let job = NewJob(spec: again, now: .now)
                    let answer = try await store.enqueue(job)
                    #expect(!answer.isNew && answer.job.id == id && answer.job.spec.idempotencyKey == key)
                    #expect(try await store.enqueueBatch([job]).map(\.isNew) == [false])
                    again.priority = 50
                    let changed = NewJob(spec: again, now: .now)
                    #expect(await conflict { _ = try await store.enqueue(changed) }?.0 == id)
                }
            }
            // In one commit, and in one batch.
            let id = JobID.version7(at: .now)
            let twins = (["x", "y", nil] as [ExactText?]).map {
                NewJob(spec: JobSpec(kind: "k", userID: "u", jobID: id, idempotencyKey: $0), now: .now)
            }
            #expect(try await store.enqueueBatch(twins).map(\.isNew) == [true, false, false])
            let outcomes = try await bench.database.run("commit") { connection throws(PostgresError) in
                try store.commitEnqueues(twins, connection)
            }
            #expect(
                outcomes.allSatisfy {
                    if case .success(.existing(id, sequence: 1)) = $0 { true } else { false }
                })
        }
    }

    /// The id and the key of two jobs with the same content: the request repeats neither.
    @Test func anIDAndAKeyOfDifferentJobs() async throws {
        try await Bench.with { bench in
            let id = JobID.version7(at: .now)
            _ = try await bench.enqueue(JobSpec(kind: "k", userID: "u", jobID: id))
            _ = try await bench.enqueue(JobSpec(kind: "k", userID: "u", idempotencyKey: "key"))
            let both = JobSpec(kind: "k", userID: "u", jobID: id, idempotencyKey: "key")
            let job = NewJob(spec: both, now: .now)
            #expect(await conflict { _ = try await bench.store.enqueue(job) }?.0 == id)
            #expect(await conflict { _ = try await bench.store.enqueueBatch([job]) }?.0 == id)
            // Beside a repetition in one commit.
            let same = NewJob(spec: JobSpec(kind: "k", userID: "u", jobID: id), now: .now)
            let outcomes = try await bench.database.run("commit") { connection throws(PostgresError) in
                try bench.store.commitEnqueues([same, job], connection)
            }
            guard case .success(.existing(id, sequence: 1)) = outcomes[0],
                case .failure(.conflict(id, 0)) = outcomes[1]
            else {
                Issue.record("\(outcomes)")
                return
            }
        }
    }

    /// Digests that earlier versions have stored must still be found equal.
    @Test func theDigestStaysAsItWas() {
        let spec = JobSpec(
            kind: "k", userID: "u", queue: "q", payload: [1, 2], contentType: "text/plain", jobID: Self.id,
            idempotencyKey: "key", priority: -3, due: .after(.milliseconds(1500)), maxAttempts: 7,
            retryPolicy: RetryPolicy(
                initialDelay: .seconds(2), factor: 1.5, maxDelay: .seconds(60), jitter: 0.25),
            timeout: .seconds(20), softTimeout: .seconds(10), labels: ["a": "1", "é": ""])
        func hex(_ spec: JobSpec) -> String {
            RequestDigest.digest(of: spec).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
        #expect(hex(spec) == "87de1211ced30d74c0ef40f2b2f1c03442be55f5e7cdbb63edb22da46f4d699b")
        #expect(
            hex(JobSpec(kind: "k", userID: "u", jobID: Self.id))
                == "3f6bc633799da490227b9c873741c221cf0ce9a1fa5de1207f15d9641c229ffd")
    }

    @Test func aBatchNamesTheSequenceOfExistingJobs() async throws {
        try await Bench.with { bench in
            func job(_ key: ExactText) -> NewJob {
                NewJob(spec: JobSpec(kind: "k", userID: "u", idempotencyKey: key), now: .now)
            }
            let done = try await bench.store.enqueueBatch([job("done"), job("runs")])[0].id
            let runs = try await bench.claim()
            #expect(runs.count == 2)
            try await bench.finish(try #require(runs.first { $0.key.id == done }), .success)
            let waiting = job("waits")
            let answers = try await bench.store.enqueueBatch([job("done"), job("runs"), waiting, job("new")])
            #expect(answers.map(\.isNew) == [false, false, true, true])
            #expect(answers.map(\.sequence) == [3, 2, 1, 1])
            #expect(answers.map(\.disposition) == [.sameRequest, .sameRequest, .created, .created])
        }
    }

    /// The memory of numbers is emptied while a batch is looked up.
    @Test func moreLanesThanAreRemembered() async throws {
        try await Bench.with { bench in
            let catalog = Catalog(lanesMax: 3, kindsMax: 2)
            func resolve(_ names: [String]) async throws -> [LaneIDs] {
                let jobs = names.map {
                    NewJob(spec: JobSpec(kind: "k" + $0, userID: ExactText($0)), now: .now)
                }
                return try await bench.database.run("resolve") { connection throws(PostgresError) in
                    try catalog.resolve(jobs, connection)
                }.compactMap { $0 }
            }
            let first = try await resolve(["a", "b"])
            let second = try await resolve(["a", "c", "b", "d", "a"])
            #expect(
                [second[0], second[2], second[4]].map(\.lane) == [first[0], first[1], first[0]].map(\.lane))
            #expect([second[0], second[2]].map(\.kind) == first.map(\.kind))
            #expect(Set(second.map(\.lane)).count == 4)
        }
    }

    /// Of each a row is kept for ever, and what a user has waiting is looked for in all of them.
    @Test func aUserHasSoManyQueuesAtMost() async throws {
        try await Bench.with { bench in
            let catalog = Catalog(queuesPerUserMax: 3)
            func resolve(
                _ queues: [String], of user: String, together: Bool = false
            ) async throws -> [Bool] {
                let jobs = queues.map {
                    NewJob(spec: JobSpec(kind: "k", userID: ExactText(user), queue: $0), now: .now)
                }
                return try await bench.database.run("resolve") { connection throws(PostgresError) in
                    try catalog.resolve(jobs, together: together, connection)
                }.map { $0 != nil }
            }
            let first = try await resolve(["a", "b", "a"], of: "ada")
            #expect(first == [true, true, true])
            // Of a batch none is added.
            let batch = try await resolve(["c", "b", "d"], of: "ada", together: true)
            #expect(batch == [false, true, false])
            // Of others as many as there is room for.
            let others = try await resolve(["c", "b", "d"], of: "ada")
            #expect(others.count { $0 } == 2 && others[1])
            let again = try await resolve(["e"], of: "ada") + resolve(["a", "b"], of: "ada")
            #expect(again == [false, true, true])
            let bobs = try await resolve(["d", "e", "f"], of: "bob")
            #expect(bobs == [true, true, true])
        }
    }

    @Test func repeatsWithinOneCommit() async throws {
        try await Bench.with { bench in
            let spec = JobSpec(kind: "k", userID: "u", jobID: Self.id)
            var other = spec
            other.priority = 5
            let keyed = JobSpec(kind: "k", userID: "u", idempotencyKey: "a")
            let jobs = [spec, spec, other, keyed, keyed, spec].map { NewJob(spec: $0, now: .now) }
            let outcomes = try await bench.database.run("commit") { connection throws(PostgresError) in
                try bench.store.commitEnqueues(jobs, connection)
            }
            let words = outcomes.map { outcome in
                switch outcome {
                case .success(.new): "new"
                case .success(.existing): "existing"
                case .failure(.conflict): "conflict"
                case .failure: "failure"
                }
            }
            #expect(words == ["new", "existing", "conflict", "new", "existing", "existing"])
            let count = try await bench.count("job")
            #expect(count == 2)
            #expect(bench.changes.all.count == 2)
        }
    }

    @Test func dueNowOrLater() async throws {
        try await Bench.with { bench in
            let now = Timestamp.now
            let past = try await bench.enqueue(
                JobSpec(kind: "k", userID: "u", due: .at(now.advanced(by: .seconds(-1000)))))
            let later = try await bench.enqueue(JobSpec(kind: "k", userID: "u", due: .after(.seconds(100))))
            let atThen = try await bench.enqueue(
                JobSpec(kind: "k", userID: "u", due: .at(now.advanced(by: .seconds(1000)))))
            #expect(past.dueAt == now.advanced(by: .seconds(-1000)))
            #expect(later.dueAt == later.createdAt.advanced(by: .seconds(100)))
            #expect(atThen.dueAt == now.advanced(by: .seconds(1000)))
            #expect(
                try await bench.texts("SELECT state::text FROM live ORDER BY number")
                    == ["ready", "scheduled", "scheduled"])
            #expect(try await bench.job(later.id).state == .pending)
        }
    }

    // MARK: Batches

    @Test func batchInOrder() async throws {
        try await Bench.with { bench in
            let jobs = (0..<3000).map { NewJob(spec: JobSpec(kind: "k", userID: "u\($0 % 7)"), now: .now) }
            let answer = try await bench.store.enqueueBatch(jobs)
            #expect(answer.map(\.id) == jobs.map(\.id))
            #expect(answer.allSatisfy { $0.isNew })
            #expect(try await bench.count("live") == 3000)
            #expect(try await bench.count("change") == 1)
            let numbers = try await bench.store.numbers(of: jobs.map(\.id))
            let inOrder = jobs.compactMap { numbers[$0.id] }
            #expect(inOrder == inOrder.sorted())
            #expect(try await bench.store.enqueueBatch([]).isEmpty)
        }
    }

    /// Of all jobs, in the order of their numbers: id, user, the payload's first byte.
    private func rows(_ bench: Bench) async throws -> [String] {
        try await bench.texts(
            """
            SELECT id::text || ' ' || user_id || ' ' || get_byte(payload, 0)::text FROM job ORDER BY number
            """)
    }

    private func row(_ job: NewJob) -> String {
        "\(job.id) \(job.spec.userID) \(job.spec.payload[0])"
    }

    /// The change that is published of each job has the job's own number and lane.
    private func expectPublished(_ bench: Bench) async throws {
        var published: [String] = []
        for case .event(let event, let key) in bench.changes.all {
            published.append("\(key.id) \(event.userID) \(key.number) \(key.lane)")
        }
        let kept = try await bench.texts(
            "SELECT id::text || ' ' || user_id || ' ' || number::text || ' ' || lane::text FROM job")
        #expect(published.sorted() == kept.sorted())
    }

    @Test func batchKeepsWhatBelongsToEachJob() async throws {
        try await Bench.with { bench in
            let jobs = (0..<200).map { number in
                NewJob(
                    spec: JobSpec(kind: "k", userID: "u\(number % 7)", payload: [UInt8(number)]), now: .now)
            }
            _ = try await bench.store.enqueueBatch(jobs)
            let expected = jobs.map { row($0) }
            #expect(try await rows(bench) == expected)
            try await expectPublished(bench)
        }
    }

    /// New ones behind, before and between those that are there, and some twice.
    @Test func batchWithIDsThatExist() async throws {
        try await Bench.with { bench in
            let jobs = (0..<10).map { number in
                NewJob(
                    spec: JobSpec(
                        kind: "k", userID: "u\(number % 3)", payload: [UInt8(number)],
                        jobID: JobID.version7(milliseconds: 1, random: (0, UInt64(number)))), now: .now)
            }
            let first = try await bench.store.enqueueBatch([2, 5, 0].map { jobs[$0] })
            #expect(first.map(\.isNew) == [true, true, true])
            let batch = [0, 1, 2, 1, 3, 4, 5, 5, 6].map { jobs[$0] }
            let answer = try await bench.store.enqueueBatch(batch)
            #expect(answer.map(\.id) == batch.map(\.id))
            #expect(answer.map(\.isNew) == [false, true, false, false, true, true, false, false, true])
            let expected = [2, 5, 0, 1, 3, 4, 6].map { row(jobs[$0]) }
            #expect(try await rows(bench) == expected)
            try await expectPublished(bench)
        }
    }

    /// The places of those that come twice are counted.
    @Test func conflictBehindARepeatNamesItsIndex() async throws {
        try await Bench.with { bench in
            _ = try await bench.enqueue(JobSpec(kind: "k", userID: "u", payload: [1], jobID: Self.id))
            let fresh = JobSpec(
                kind: "k", userID: "u", jobID: JobID.version7(milliseconds: 1, random: (0, 1)))
            let other = JobSpec(kind: "k", userID: "u", payload: [2], jobID: Self.id)
            let known = [fresh, fresh, fresh, other, other].map { NewJob(spec: $0, now: .now) }
            let answer = await conflict { _ = try await bench.store.enqueueBatch(known) }
            #expect(answer?.0 == Self.id && answer?.1 == 3)
            var twin = fresh
            twin.priority = 1
            let twins = [other, fresh, fresh, twin].map { NewJob(spec: $0, now: .now) }
            let second = await conflict { _ = try await bench.store.enqueueBatch(twins) }
            #expect(second?.0 == fresh.jobID && second?.1 == 3)
            #expect(try await bench.count("job") == 1)
        }
    }

    @Test func batchIsAllOrNone() async throws {
        try await Bench.with { bench in
            _ = try await bench.enqueue(JobSpec(kind: "k", userID: "u", payload: [1], jobID: Self.id))
            let jobs = [
                NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now),
                NewJob(spec: JobSpec(kind: "k", userID: "u", payload: [2], jobID: Self.id), now: .now),
                NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now),
            ]
            let answer = await conflict { _ = try await bench.store.enqueueBatch(jobs) }
            #expect(answer?.0 == Self.id && answer?.1 == 1)
            #expect(try await bench.count("job") == 1)
            #expect(try await bench.count("live") == 1)
            #expect(bench.changes.all.count == 1)
            // The connection is as good as new.
            #expect(try await bench.store.enqueueBatch([jobs[0], jobs[2]]).count == 2)
        }
    }

    @Test func batchWithRepeats() async throws {
        try await Bench.with { bench in
            let named = JobSpec(kind: "k", userID: "u", jobID: Self.id)
            let keyed = JobSpec(kind: "k", userID: "u", idempotencyKey: "a")
            let jobs = [named, keyed, named, keyed].map { NewJob(spec: $0, now: .now) }
            let answer = try await bench.store.enqueueBatch(jobs)
            #expect(answer.map(\.isNew) == [true, true, false, false])
            #expect(answer.map(\.id) == [Self.id, jobs[1].id, Self.id, jobs[1].id])
            // Once more, all of it is there.
            #expect(try await bench.store.enqueueBatch(jobs).map(\.isNew) == [false, false, false, false])
            var other = keyed
            other.priority = 1
            let mixed = [
                NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now), NewJob(spec: other, now: .now),
            ]
            #expect(await conflict { _ = try await bench.store.enqueueBatch(mixed) }?.1 == 1)
            var twin = named
            twin.priority = 1
            let twins = [named, twin].map { NewJob(spec: $0, now: .now) }
            #expect(await conflict { _ = try await bench.store.enqueueBatch(twins) }?.1 == 1)
            #expect(try await bench.count("job") == 2)
        }
    }
}
