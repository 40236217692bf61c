import Foundation
import JobStore
import Logging
import Postgres
import SignalboxJobs
import Synchronization
import TestDatabase
import Testing

@testable import Signalbox

/// Two living servers whose database comes back without its last commits.
@Suite(.timeLimit(.minutes(2))) struct RestoreTests {
    /// What the handlers of a test say, and when they may end.
    private final class Stage: Sendable {
        private struct State {
            var isOpen = false
            var waiters: [CheckedContinuation<Void, Never>] = []
        }

        private let state = Mutex(State())
        private let (starts, start) = AsyncStream<Void>.makeStream()
        private let (cancels, cancel) = AsyncStream<Void>.makeStream()

        func run() async {
            start.yield()
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let isOpen = state.withLock { state in
                        if !state.isOpen { state.waiters.append(continuation) }
                        return state.isOpen
                    }
                    if isOpen { continuation.resume() }
                }
            } onCancel: {
                cancel.yield()
            }
        }

        func waitForStarts(_ count: Int) async { for await _ in starts.prefix(count) {} }
        func waitForCancels(_ count: Int) async { for await _ in cancels.prefix(count) {} }

        func open() {
            let waiters = state.withLock { state in
                state.isOpen = true
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume() }
        }
    }

    /// Returns its input, once it may.
    private struct Echo: JobHandler {
        static let kind = "echo"
        let timeout: Duration = .seconds(60)
        let stages: [String: Stage]

        func run(_ input: String, context: JobContext) async throws -> String {
            context.report(fraction: 0.5, message: input)
            context.log(input)
            if input != "first" { await stages[context.userID]?.run() }
            return input
        }
    }

    private final class SeenUpdates: Sendable {
        private let updates = Mutex<[JobUpdate]>([])
        var all: [JobUpdate] { updates.withLock(\.self) }
        func add(_ update: JobUpdate) { updates.withLock { $0.append(update) } }
    }

    private func withServers(
        _ stages: [String: Stage],
        _ body: (_ schema: TestSchema, _ database: Database, _ one: any JobQueue, _ two: any JobQueue)
            async throws -> Void
    ) async throws {
        try await TestDatabase.withSchema { schema in
            let servers = try ["one", "two"].map { name in
                var configuration = SignalboxConfiguration()
                configuration.port = 0
                configuration.nodeName = name
                configuration.databaseURL = schema.url(applicationName: schema.name)
                configuration.concurrency = 20
                configuration.userLimit = 20
                configuration.lease = .seconds(5)
                return try SignalboxServer(
                    handlers: [Echo(stages: stages)], configuration: configuration,
                    logger: Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() })
            }
            let running = servers.map { server in Task { try await server.run() } }
            let result: Result<Void, any Error>
            do {
                try await schema.withDatabase { database in
                    // Each server remembers the lanes of these users.
                    for server in servers {
                        for user in ["ada", "eve"] {
                            let job = try await server.jobs.enqueue("echo", userID: user, input: "first").job
                            #expect(try await server.jobs.finalJob(job.id).state == .succeeded)
                        }
                    }
                    try await body(schema, database, servers[0].jobs, servers[1].jobs)
                }
                result = .success(())
            } catch {
                result = .failure(error)
            }
            for stage in stages.values { stage.open() }
            for task in running { task.cancel() }
            for task in running { try await task.value }
            try result.get()
        }
    }

    @Test func noJobGetsWhatIsOfAnother() async throws {
        let stages = ["ada": Stage(), "eve": Stage(), "new": Stage(), "late": Stage()]
        let lost = try #require(stages["ada"])
        try await withServers(stages) { schema, database, one, two in
            try await schema.keep(database)
            var lostJobs: [UUID] = []
            for number in 0..<4 {
                lostJobs.append(
                    try await one.enqueue("echo", userID: "ada", input: "ada \(number)").job.id)
            }
            // Its lane is new, and is lost too.
            lostJobs.append(try await one.enqueue("echo", userID: "new", input: "new").job.id)
            await lost.waitForStarts(4)
            try await schema.restore(database)

            // The jobs of others get the same numbers, tokens and lanes, on the other server, and back on the first.
            var jobs: [UUID: (user: String, word: String)] = [:]
            func enqueue(_ user: String, _ word: String, by server: any JobQueue) async throws {
                let job = try await server.enqueue("echo", userID: user, input: word).job
                jobs[job.id] = (user, word)
            }
            try await enqueue("late", "late", by: two)
            for number in 0..<4 { try await enqueue("eve", "eve \(number)", by: two) }
            try await enqueue("new", "new again", by: one)

            // The lost runs are stopped, whatever their handlers return then.
            await lost.waitForCancels(4)
            for stage in stages.values { stage.open() }
            for (id, expected) in jobs {
                #expect(try await two.result(of: id, as: String.self) == expected.word)
                let job = try await one.job(id, includingPayload: true)
                #expect(job.userID == expected.user)
                #expect(try job.payload?.decoded(as: String.self) == expected.word)
                #expect(job.log.allSatisfy { $0.message == expected.word } && !job.log.isEmpty)
                #expect(job.attempts.count == 1)
            }
            for id in lostJobs {
                let error = await #expect(throws: SignalboxError.self) { try await two.job(id) }
                #expect(error?.code == .notFound)
            }
        }
    }

    /// Watches of the lost jobs and their users end or go on, and say nothing of others.
    @Test func noWatchTellsOfAnothersJob() async throws {
        let stages = ["ada": Stage(), "eve": Stage()]
        let (adas, eves) = (try #require(stages["ada"]), try #require(stages["eve"]))
        try await withServers(stages) { schema, database, one, two in
            try await schema.keep(database)
            let lost = try await one.enqueue("echo", userID: "ada", input: "ada").job
            await adas.waitForStarts(1)
            let seen = SeenUpdates()
            let (currents, current) = AsyncStream<Void>.makeStream()
            var named = JobWatch.job(lost.id)
            named.includesLog = true
            try await withThrowingTaskGroup(of: Void.self) { group in
                for watch in [named, .user("ada")] {
                    group.addTask { [current] in
                        do {
                            for try await update in one.watch(watch) {
                                if update == .isCurrent { current.yield() }
                                seen.add(update)
                            }
                        } catch is SignalboxError {
                            // It has ended because the database has lost what it knew.
                        }
                    }
                }
                for await _ in currents.prefix(2) {}
                try await schema.restore(database)
                let new = try await two.enqueue("echo", userID: "eve", input: "eve").job
                await eves.waitForStarts(1)
                await adas.waitForCancels(1)
                for stage in stages.values { stage.open() }
                #expect(try await two.result(of: new.id, as: String.self) == "eve")
                // An update of ada's, which comes after those of eve's job.
                let last = try await one.enqueue("echo", userID: "ada", input: "ada").job
                #expect(try await one.result(of: last.id, as: String.self) == "ada")
                group.cancelAll()
                do { try await group.waitForAll() } catch is CancellationError {}
                for update in seen.all {
                    switch update {
                    case .snapshot(let job): #expect(job.userID == "ada")
                    case .event(let event): #expect(event.userID == "ada" && event.jobID != new.id)
                    case .progress(let id, _, let progress):
                        #expect(id != new.id && progress.message == "ada")
                    case .log(let id, let lines):
                        #expect(id == lost.id && lines.allSatisfy { $0.message == "ada" })
                    case .removed(let id): #expect(id == lost.id)
                    case .isCurrent: break
                    }
                }
            }
        }
    }
}
