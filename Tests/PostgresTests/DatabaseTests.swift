import Dispatch
import Foundation
import Logging
import Postgres
import Synchronization
import TestDatabase
import Testing

@Suite(.timeLimit(.minutes(2))) struct DatabaseTests {
    private static let answer = Statement("answer", "SELECT 42::int8")

    @Test func runsWorkOnSeveralConnections() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 3) { database in
                let sum = try await withThrowingTaskGroup(of: Int64.self) { group in
                    for _ in 0..<200 {
                        group.addTask {
                            try await database.run("answer") { connection throws(PostgresError) in
                                try connection.execute(Self.answer).onlyRow.int64(0)
                            }
                        }
                    }
                    return try await group.reduce(0, +)
                }
                #expect(sum == 42 * 200)
            }
        }
    }

    @Test func reconnectsAfterTheServerEndedTheConnection() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let first = try await database.run("pid") { $0.backendProcessID }
                // In flight: fails at once, is not run again.
                let runs = Mutex(0)
                await #expect {
                    try await database.run("end") { connection throws(PostgresError) in
                        runs.withLock { $0 += 1 }
                        _ = try connection.execute(
                            Statement(nil, "SELECT pg_terminate_backend(pg_backend_pid())"))
                    }
                } throws: {
                    ($0 as? PostgresError)?.isConnectionLoss == true
                }
                #expect(runs.withLock { $0 } == 1)
                // Waiting: survives.
                let second = try await database.run("pid") { $0.backendProcessID }
                #expect(first != second)
            }
        }
    }

    @Test func anIdleConnectionThatEndedIsReplaced() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { victim in
                try await schema.withDatabase { killer in
                    let pid = try await victim.run("pid") { $0.backendProcessID }
                    // Returns when the backend is gone.
                    try await killer.run("kill") { connection throws(PostgresError) in
                        let end = Statement(nil, "SELECT pg_terminate_backend($1, 30000)")
                        _ = try connection.execute(end, Parameters { $0.append(pid) })
                    }
                    let newPID = try await victim.run("pid") { $0.backendProcessID }
                    #expect(newPID != pid)
                }
            }
        }
    }

    @Test func anOpenTransactionIsRolledBack() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                try await database.run("begin") { connection throws(PostgresError) in
                    try connection.executeScript("BEGIN; CREATE TABLE lost (id int)")
                }
                let found = try await database.run("look") { connection throws(PostgresError) in
                    if connection.isInTransaction { throw PostgresError(.usage, "in a transaction") }
                    return try connection.execute(Statement(nil, "SELECT to_regclass('lost')::text")).onlyRow
                        .optionalString(0)
                }
                #expect(found == nil)
            }
        }
    }

    /// Holds connections until `release`, and says when it has one.
    private final class Gate: Sendable {
        private let (entered, entry) = AsyncStream.makeStream(of: Void.self)
        private let open = DispatchSemaphore(value: 0)
        private let entries = Mutex(0)
        var entryCount: Int { entries.withLock { $0 } }

        func hold() {
            entries.withLock { $0 += 1 }
            entry.yield()
            open.wait()
            // For the next one that is held.
            open.signal()
        }

        func waitUntilHeld() async {
            for await _ in entered { return }
        }

        func release() { open.signal() }
    }

    @Test func theQueueIsBoundedAndCancellable() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(queueCountMax: 1) { database in
                let gate = Gate()
                async let held: Void = database.run("hold") { _ in gate.hold() }
                await gate.waitUntilHeld()
                let waiting = Task { try await database.run("wait") { _ in } }
                // The second in the queue is refused; which of the two that is does not matter here.
                let refused = Task { try await database.run("refused") { _ in } }
                var errors: [PostgresError.Code] = []
                let next = Task { await Self.code(refused) }
                let other = Task { await Self.code(waiting) }
                // Exactly one is refused at once; the other waits until it is cancelled.
                errors = await withTaskGroup(of: PostgresError.Code?.self) { group in
                    group.addTask { await next.value }
                    group.addTask { await other.value }
                    var codes: [PostgresError.Code] = []
                    for await code in group {
                        if let code { codes.append(code) }
                        waiting.cancel()
                        refused.cancel()
                    }
                    return codes
                }
                #expect(errors == [.overloaded, .cancelled])
                gate.release()
                try await held
            }
        }
    }

    private static func code(_ task: Task<Void, any Error>) async -> PostgresError.Code? {
        do {
            try await task.value
            return nil
        } catch {
            return (error as? PostgresError)?.code
        }
    }

    @Test func cancelledBeforeItStarted() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let gate = Gate()
                async let held: Void = database.run("hold") { _ in gate.hold() }
                await gate.waitUntilHeld()
                let task = Task {
                    withUnsafeCurrentTask { $0?.cancel() }
                    let _: Void = try await database.run("never") { _ throws(PostgresError) in
                        throw PostgresError(.usage, "it ran")
                    }
                }
                #expect(await Self.code(task) == .cancelled)
                gate.release()
                try await held
            }
        }
    }

    @Test(.timeLimit(.minutes(3))) func cancellingStopsTheStatementOfAReadOnly() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 1) { database in
                try await schema.withDatabase { other in
                    let pid = try await database.run("pid") { $0.backendProcessID }
                    for _ in 0..<20 {
                        let asleep = Task {
                            try await database.run("sleep", timeout: .seconds(50), isInterruptible: true) {
                                connection throws(PostgresError) in
                                try connection.execute(Statement(nil, "SELECT pg_sleep(50)")).count
                            }
                        }
                        let find = Statement(
                            nil,
                            """
                            SELECT pid FROM pg_stat_activity
                            WHERE pid = $1 AND state = 'active' AND query = 'SELECT pg_sleep(50)'
                            """)
                        var isAsleep = false
                        while !isAsleep {
                            isAsleep = try await other.run("look") { connection throws(PostgresError) in
                                _ = try connection.execute(Statement(nil, "SELECT pg_sleep(0.001)"))
                                let found = try connection.execute(find, Parameters { $0.append(pid) })
                                return found.rowCount == 1
                            }
                        }
                        asleep.cancel()
                        let error = await #expect(throws: PostgresError.self) { try await asleep.value }
                        #expect(error?.sqlState == "57014")
                        // The same connection goes on, and what it does next is not stopped instead.
                        let next = try await database.run("next") { connection throws(PostgresError) in
                            _ = try connection.execute(Statement(nil, "SELECT pg_sleep(0.001)"))
                            return connection.backendProcessID
                        }
                        #expect(next == pid)
                    }
                }
            }
        }
    }

    @Test func waitingTimesOut() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let gate = Gate()
                async let held: Void = database.run("hold") { _ in gate.hold() }
                await gate.waitUntilHeld()
                await #expect {
                    try await database.run("late", timeout: .milliseconds(30)) { _ in }
                } throws: {
                    ($0 as? PostgresError)?.code == .timeout
                }
                gate.release()
                try await held
            }
        }
    }

    @Test func longWorkLeavesConnectionsToTheRest() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 4) { database in
                let gate = Gate()
                async let held: Void = withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<6 {
                        group.addTask { try await database.run("long", isLong: true) { _ in gate.hold() } }
                    }
                    try await group.waitForAll()
                }
                for _ in 0..<2 { await gate.waitUntilHeld() }
                do {
                    for _ in 0..<20 { try await database.run("short", timeout: .seconds(10)) { _ in } }
                } catch {
                    Issue.record(error)
                }
                // Connections are free, but not for this one.
                let late = Task {
                    try await database.run("late", timeout: .milliseconds(30), isLong: true) { _ in }
                }
                #expect(await Self.code(late) == .timeout)
                #expect(gate.entryCount == 2)
                gate.release()
                try await held
                #expect(gate.entryCount == 6)
            }
        }
    }

    /// The only connection does both.
    @Test func longWorkIsDoneInOrder() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let gate = Gate()
                async let held: Void = database.run("hold", isLong: true) { _ in gate.hold() }
                await gate.waitUntilHeld()
                async let sum = withThrowingTaskGroup(of: Int.self) { group in
                    for number in 0..<10 {
                        group.addTask {
                            try await database.run("mixed", isLong: number % 2 == 0) { _ in number }
                        }
                    }
                    return try await group.reduce(0, +)
                }
                gate.release()
                try await held
                #expect(try await sum == 45)
            }
        }
    }

    @Test func withoutAServerWorkFailsWithTheReason() async throws {
        let database = try Database(
            .init(
                connection: .init(
                    connectionString: "host=/nonexistent", applicationName: "tests",
                    logger: .init(label: "tests"))))
        await #expect {
            try await database.run("nowhere", timeout: .milliseconds(200)) { _ in }
        } throws: {
            ($0 as? PostgresError)?.code == .connection && "\($0)".contains("nowhere")
        }
        await database.shutdown()
    }

    @Test func shutdownFinishesWhatWaits() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let gate = Gate()
                async let held: Void = database.run("hold") { _ in gate.hold() }
                await gate.waitUntilHeld()
                async let over: Void = database.shutdown()
                // From some moment on, work is refused.
                while await Self.code(Task { try await database.run("late", timeout: .zero) { _ in } })
                    != .shutdown
                {}
                gate.release()
                try await held
                await over
            }
        }
    }
}
