import JobModel
import Postgres
import Support
import TestDatabase
import Testing

@testable import JobStore

/// One id or key, many times in one commit: the statements are a few, however many calls there are.
@Suite struct RepeatTests {
    private static let id = JobID("0197a0de-0000-4000-8000-00000000abcd")!
    private static let count = 500
    /// Looks for lanes and adds them, inserts, looks for what is there: for each of three rounds at most.
    private static let statementsMax: Int64 = 30

    private struct Committed {
        var outcomes: [Result<EnqueueOutcome, StoreError>]
        var statements: Int64

        var words: [String] {
            outcomes.map { outcome in
                switch outcome {
                case .success(.new): "new"
                case .success(.existing(let id, sequence: _)):
                    id == RepeatTests.id ? "existing" : "existing other"
                case .failure(.conflict(let id, _)): id == RepeatTests.id ? "conflict" : "conflict other"
                case .failure(.tooManyQueues): "too many queues"
                case .failure(let error): "\(error)"
                }
            }
        }
    }

    /// Commits jobs together, and counts what the server was asked to run.
    private func commit(_ specs: [JobSpec], _ bench: Bench) async throws -> Committed {
        let jobs = specs.map { NewJob(spec: $0, now: .now) }
        return try await bench.database.run("commit") { connection throws(PostgresError) in
            // Every statement of the store is prepared, and the server counts how often it made or took a plan of each.
            let count = Statement(
                nil,
                "SELECT coalesce(sum(generic_plans + custom_plans), 0)::bigint FROM pg_prepared_statements")
            let before = try connection.execute(count).onlyRow.int64(0)
            let outcomes = try bench.store.commitEnqueues(jobs, connection)
            return Committed(
                outcomes: outcomes, statements: try connection.execute(count).onlyRow.int64(0) - before)
        }
    }

    private func specs(_ change: (inout JobSpec, Int) -> Void = { _, _ in }) -> [JobSpec] {
        (0..<Self.count).map { number in
            var spec = JobSpec(kind: "k", userID: "u", jobID: Self.id)
            change(&spec, number)
            return spec
        }
    }

    private func others(_ word: String) -> [String] { Array(repeating: word, count: Self.count - 1) }

    @Test func equalContentIsWrittenOnce() async throws {
        try await Bench.with { bench in
            let first = try await commit(specs(), bench)
            #expect(first.words == ["new"] + others("existing"))
            #expect(first.statements > 0 && first.statements <= Self.statementsMax)
            // All of them know of it by now.
            let second = try await commit(specs(), bench)
            #expect(second.words == ["existing"] + others("existing"))
            #expect(second.statements > 0 && second.statements <= Self.statementsMax)
            #expect(try await bench.count("job") == 1)
            #expect(try await bench.count("audit") == 1)
        }
    }

    /// Nobody needs to repeat himself exactly to repeat an id.
    @Test func everyContentIsAnother() async throws {
        try await Bench.with { bench in
            let specs = specs { $0.payload = [UInt8($1 & 255), UInt8($1 >> 8)] }
            let first = try await commit(specs, bench)
            #expect(first.words == ["new"] + others("conflict"))
            #expect(first.statements <= Self.statementsMax)
            let second = try await commit(specs.reversed(), bench)
            #expect(second.words == others("conflict") + ["existing"])
            #expect(second.statements <= Self.statementsMax)
            #expect(try await bench.count("job") == 1)
        }
    }

    /// The id is free, but each call has the key of another job.
    @Test func everyKeyIsTaken() async throws {
        try await Bench.with { bench in
            var keyed = specs { $0.idempotencyKey = "key\($1)" }
            for index in keyed.indices { keyed[index].jobID = nil }
            _ = try await bench.store.enqueueBatch(keyed.map { NewJob(spec: $0, now: .now) })
            let again = try await commit(specs { $0.idempotencyKey = "key\($1)" }, bench)
            #expect(again.words == ["existing other"] + others("existing other"))
            #expect(again.statements <= Self.statementsMax)
            #expect(try await bench.count("job") == Self.count)
        }
    }

    /// What one of them is refused for is nothing that the id is taken by.
    @Test func oneIsRefusedAndTheNextIsAdded() async throws {
        try await Bench.with { bench in
            let taken = JobSpec(kind: "k", userID: "u", idempotencyKey: "taken")
            _ = try await bench.enqueue(taken)
            let specs = specs { spec, number in
                spec.priority = number < 10 ? 0 : 1
                spec.idempotencyKey = number < 10 ? "taken" : nil
            }
            let words = Array(repeating: "existing other", count: 10) + ["new"]
            let committed = try await commit(specs, bench)
            #expect(committed.words == words + others("existing").dropFirst(10))
            #expect(committed.statements <= Self.statementsMax)
        }
    }

    @Test func aKeyOftenInOneCommit() async throws {
        try await Bench.with { bench in
            let specs = specs {
                $0.jobID = nil
                $0.idempotencyKey = "key"
                $0.priority = $1 == 7 ? 1 : 0
            }
            let committed = try await commit(specs, bench)
            #expect(committed.words.count { $0 == "new" } == 1)
            #expect(committed.words.count { $0 == "conflict other" } == 1)
            #expect(committed.words.count { $0 == "existing other" } == Self.count - 2)
            #expect(committed.statements <= Self.statementsMax)
        }
    }

    /// Each answer holds the job as it is: to read it for each call on its own would be as many statements as calls, and
    /// more than may wait.
    @Test func theAnswersShareTheirReads() async throws {
        try await Bench.with { bench in
            try await bench.schema.withDatabase(connectionCount: 2, queueCountMax: 8) { database in
                let store = JobStore(database: database, leaseDatabase: database)
                let enqueued = try await withThrowingTaskGroup(of: Enqueued.self) { group in
                    for number in 0..<3_000 {
                        var spec = JobSpec(kind: "k", userID: "u")
                        if number % 2 == 0 { spec.jobID = Self.id } else { spec.idempotencyKey = "key" }
                        group.addTask { [spec] in try await store.enqueue(NewJob(spec: spec, now: .now)) }
                    }
                    return try await group.reduce(into: [Enqueued]()) { $0.append($1) }
                }
                #expect(enqueued.count { $0.isNew } == 2)
                #expect(Set(enqueued.map(\.job.id)).count == 2)
                #expect(enqueued.allSatisfy { $0.job.state == .pending && $0.job.spec.userID == "u" })
            }
        }
    }

    /// What the database refuses fails alone, and those that came with it are not committed one by one for it.
    @Test func oneThatIsRefusedByTheDatabase() async throws {
        try await Bench.with { bench in
            try await bench.script("ALTER TABLE job ADD CONSTRAINT none_of_bad CHECK (user_id <> 'bad')")
            let outcomes = await withTaskGroup(of: Result<Enqueued, StoreError>.self) { group in
                for number in 0..<Self.count {
                    let spec = JobSpec(kind: "k", userID: number == 123 ? "bad" : "u")
                    group.addTask {
                        do throws(StoreError) {
                            return .success(try await bench.store.enqueue(NewJob(spec: spec, now: .now)))
                        } catch {
                            return .failure(error)
                        }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            let failures = outcomes.compactMap { if case .failure(let error) = $0 { error } else { nil } }
            #expect(failures.count == 1)
            if case .broken? = failures.first {} else { Issue.record("\(failures)") }
            #expect(try await bench.count("job") == Self.count - 1)
            // A row for each commit.
            let commits = try await bench.count("change")
            #expect(commits < Self.count / 4)
        }
    }
}
