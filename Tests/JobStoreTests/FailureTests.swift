import JobModel
import Logging
import Postgres
import Support
import TestDatabase
import Testing

@testable import JobStore

@Suite struct FailureTests {
    private func failure<T>(_ body: () async throws -> T) async -> StoreError? {
        do {
            _ = try await body()
            return nil
        } catch {
            return error as? StoreError
        }
    }

    private func isUnavailable(_ error: StoreError?) -> Bool {
        if case .unavailable? = error { true } else { false }
    }

    private func isBroken(_ error: StoreError?) -> Bool {
        if case .broken? = error { true } else { false }
    }

    @Test func codesOfTheDatabase() {
        func map(_ code: PostgresError.Code) -> StoreError { StoreError(PostgresError(code, "m")) }
        for code: PostgresError.Code in [.connection, .timeout, .shutdown, .resources] {
            #expect(isUnavailable(map(code)))
        }
        for state in [
            "40001", "40P01", "57P01", "57014", "53300", "53100", "08006", "25006", "25P03", "25P04", "55P03",
            "58030",
        ] {
            #expect(isUnavailable(map(.server(sqlState: state))), "\(state)")
        }
        for state in ["42601", "23505", "22021", "22P05", "42501", "XX000"] {
            #expect(isBroken(map(.server(sqlState: state))), "\(state)")
        }
        #expect(map(.overloaded) == .overloaded)
        #expect(map(.cancelled) == .cancelled)
        for code: PostgresError.Code in [.decoding, .usage] { #expect(isBroken(map(code))) }
    }

    @Test func databaseThatIsNotThere() async throws {
        let database = try Database(
            .init(
                connection: .init(
                    connectionString: "host=/nonexistent dbname=x", applicationName: "tests",
                    logger: .init(label: "tests")), connectionCount: 1))
        var configuration = JobStore.Configuration()
        configuration.timeout = .milliseconds(200)
        let store = JobStore(database: database, leaseDatabase: database, configuration: configuration)
        let job = NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now)
        #expect(isUnavailable(await failure { try await store.enqueue(job) }))
        #expect(isUnavailable(await failure { try await store.enqueueBatch([job]) }))
        #expect(isUnavailable(await failure { try await store.job(job.id) }))
        #expect(
            isUnavailable(
                await failure {
                    try await store.renew(lease: .seconds(1), known: [], timeout: .milliseconds(200))
                }))
        await database.shutdown()
        #expect(isUnavailable(await failure { try await store.job(job.id) }))
    }

    /// The server ends every connection in the middle of it all: calls fail or succeed, none hangs, and then all
    /// is well again.
    @Test func connectionsThatAreLost() async throws {
        try await Bench.with { bench in
            let killer = try Connection(bench.schema.connectionConfiguration())
            let pids = try await withThrowingTaskGroup(of: Int32.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        try await bench.database.run("pid") { connection throws(PostgresError) in
                            _ = try connection.execute(Statement(nil, "SELECT pg_sleep(0.05)::text"))
                            return connection.backendProcessID
                        }
                    }
                }
                return try await group.reduce(into: Set<Int32>()) { $0.insert($1) }
            }
            async let answers = withTaskGroup(of: StoreError?.self) { group in
                for number in 0..<200 {
                    let job = NewJob(spec: JobSpec(kind: "k", userID: "u\(number)"), now: .now)
                    group.addTask { await failure { try await bench.store.enqueue(job) } }
                }
                return await group.reduce(into: [StoreError?]()) { $0.append($1) }
            }
            // Each returns when the backend is gone, so that what follows can find out before it sends.
            for pid in pids { try killer.executeScript("SELECT pg_terminate_backend(\(pid), 30000)") }
            let all = await answers
            #expect(all.count == 200)
            #expect(all.allSatisfy { $0 == nil || isUnavailable($0) })
            let done = all.count { $0 == nil }
            let job = try await bench.enqueue()
            #expect(try await bench.job(job.id).state == .pending)
            // What was acknowledged is there; what was not, may be.
            let found = try await bench.count("job")
            #expect(found >= done + 1 && found <= 201)
        }
    }

    /// As many slow reads as anybody likes to call.
    @Test func slowReadsLeaveRoomForWrites() async throws {
        try await Bench.with { bench in
            // Its lane is known from here on.
            let known = try await bench.enqueue()
            let job = NewJob(spec: JobSpec(kind: "k", userID: "u"), now: .now)
            let lock = try Connection(bench.schema.connectionConfiguration())
            try lock.executeScript("BEGIN; LOCK TABLE history IN ACCESS EXCLUSIVE MODE")
            let (calls, called) = AsyncStream<Void>.makeStream()
            async let read: Void = withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        called.yield()
                        _ = try await bench.store.attempts(of: known.id, for: .all, after: nil, size: 1)
                    }
                }
                try await group.waitForAll()
            }
            var waiting = 0
            for await _ in calls {
                waiting += 1
                if waiting == 8 { break }
            }
            let held = Statement(
                nil, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'history'::regclass")
            while try lock.execute(held).onlyRow.int64(0) < 2 {}
            let refusal = await failure { try await bench.store.enqueue(job) }
            #expect(refusal == nil)
            try lock.executeScript("COMMIT")
            try await read
        }
    }
}
