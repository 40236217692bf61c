import Foundation
import JobModel
import JobStore
import JobWatch
import Logging
import Postgres
import Support
import TestDatabase
import Testing

@testable import JobService

/// The operations over a schema of their own, without gRPC and without workers. This node handles the kind `k`; the kind
/// `other` is handled by a second node.
struct ServiceBench: Sendable {
    let schema: TestSchema
    let store: JobStore
    let database: Database
    let hub: WatchHub
    let jobs: JobOperations
    let watches: WatchOperations
    let admin: AdminOperations
    /// The numbers of the kinds of this node.
    let kinds: [Int32]

    static func with<R: Sendable>(
        _ limits: UserQuotas.Limits = UserQuotas.Limits(), heartbeatSeconds: Int = 15,
        _ body: (ServiceBench) async throws -> R
    ) async throws -> R {
        let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }
        return try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 4) { database in
                _ = try await Migrator.migrate(database)
                let store = JobStore(database: database, leaseDatabase: database)
                let kinds = try await register("one", ["k"], in: store)
                _ = try await register(
                    "two", ["other"], in: JobStore(database: database, leaseDatabase: database))
                let changes = ChangeFeed(store: store, logger: quiet)
                var watching = WatchHub.Configuration()
                watching.heartbeatSeconds = heartbeatSeconds
                let hub = WatchHub(
                    store: store, tokens: ResumeTokens(secret: Array(0..<32)), configuration: watching,
                    logger: quiet)
                changes.subscribe(hub)
                try await changes.open()
                let running = [Task { await changes.run() }, Task { await hub.run() }]
                defer { for task in running { task.cancel() } }
                let quotas = UserQuotas(store: store, limits: limits)
                return try await body(
                    ServiceBench(
                        schema: schema, store: store, database: database, hub: hub,
                        jobs: JobOperations(
                            store: store, kinds: KnownKinds(store: store, isOwn: { $0 == "k" }),
                            quotas: quotas,
                            pageTokens: PageTokens(secret: Array(0..<32))),
                        watches: WatchOperations(store: store, hub: hub, quotas: quotas),
                        admin: AdminOperations(
                            store: store, defaultUserLimit: 3, pageTokens: PageTokens(secret: Array(0..<32))),
                        kinds: kinds))
            }
        }
    }

    private static func register(
        _ name: String, _ kinds: [String], in store: JobStore
    ) async throws(StoreError) -> [Int32] {
        let handled = Dictionary(uniqueKeysWithValues: kinds.map { ($0, Interruption.retry) })
        return try await store.register(
            NodeDescription(id: UUID(), name: name, version: "1", concurrency: 1, kinds: handled),
            lease: .seconds(600)
        ).kinds.map(\.value)
    }

    @discardableResult
    func enqueue(
        _ user: ExactText, by caller: Caller = .root, _ change: (inout JobSpecDraft) -> Void = { _ in }
    ) async throws(ServiceError) -> JobRecord {
        try await jobs.enqueue(.of(user, change), by: caller).job
    }

    /// Starts the job that waits longest.
    func claim() async throws -> ClaimedRun {
        let request = ClaimRequest(slots: 1, kinds: kinds, cursor: ClaimCursor(), defaultUserLimit: 10)
        return try #require(try await store.claim(request).runs.first)
    }

    /// Runs the job that waits longest.
    func run() async throws {
        let result = JobResult(data: Array("42".utf8), contentType: "application/json")
        let finished = FinishedRun(try await claim(), node: "one", verdict: .final(.succeeded, nil, result))
        #expect(try await store.finish(finished) == .written)
    }

    func script(_ sql: String) async throws {
        try await database.run("script") { connection throws(PostgresError) in
            try connection.executeScript(sql)
        }
    }

    func count(_ sql: String) async throws -> Int {
        try await database.run("count") { connection throws(PostgresError) in
            Int(try connection.execute(Statement(nil, "SELECT count(*) FROM \(sql)")).onlyRow.int64(0))
        }
    }
}

extension Caller {
    /// May act for all users.
    static let root = named("root", .all)

    static func named(_ name: String, _ users: UserScope, mayRead: Bool = true, seesNodes: Bool = true)
        -> Caller
    {
        Caller(
            name: name, source: .token, address: "127.0.0.1:1", users: users,
            scopes: Scope.all.subtracting((mayRead ? [] : [.read]) + (seesNodes ? [] : [.admin])))
    }

    /// A caller who may act for these users only.
    static func of(_ users: ExactText...) -> Caller {
        .named(users.map(\.text).joined(separator: "+"), .only(Set(users)), seesNodes: false)
    }
}

extension JobSpecDraft {
    static func of(_ user: ExactText, _ change: (inout JobSpecDraft) -> Void = { _ in }) -> JobSpecDraft {
        var draft = JobSpecDraft()
        draft.kind = "k"
        draft.userID = user
        change(&draft)
        return draft
    }
}

/// Pulls the items of a watch, and waits where there are none.
struct WatchReader: ~Copyable {
    private var beginning: WatchBeginning
    private var watch: Watch?
    /// The latest resume token that was received.
    private(set) var token: ExactText = ""
    private let signal = AutoResetEvent()

    init(_ beginning: WatchBeginning) {
        self.beginning = beginning
    }

    /// Nil: the watch has ended without an error.
    mutating func next() async throws(ServiceError) -> WatchItem? {
        guard let watch else {
            if let item = try await beginning.next() { return item }
            let watch = beginning.follow()
            self.watch = watch
            watch.onReady { [signal] in signal.wake() }
            return try await next()
        }
        while true {
            switch watch.nextStep() {
            case .item(let item): return item
            case .wait: await signal.wait(atMost: .seconds(30), on: .system)
            case .work(let body): try await body()
            case .end(let error?): throw error
            case .end(nil): return nil
            }
        }
    }

    /// The next item that is no heartbeat of an idle watch.
    mutating func line(stopsAtHeartbeats: Bool = false) async throws(ServiceError) -> String? {
        while let item = try await next() {
            switch item {
            case .opened(isResumed: true, _): return "resumed"
            case .opened(isResumed: false, _): continue
            case .snapshot(let job): return "snapshot \(job.state)"
            case .update(let update):
                switch update.content {
                case .event(let event):
                    return "\(event.type.map { "\($0)" } ?? "unknown") \(event.node ?? "-")"
                case .progress(_, let progress): return "progress \(progress.fraction ?? 0)"
                case .removed: return "removed"
                }
            case .log(_, let lines): return "log \(lines.map(\.message).joined(separator: ","))"
            case .snapshotsComplete(let new):
                token = ExactText(new ?? "")
                return "complete"
            case .heartbeat(_, let new):
                if let new { token = ExactText(new) }
                if stopsAtHeartbeats { return "heartbeat" }
            }
        }
        return nil
    }

    func close() {
        if let watch { watch.close() } else { beginning.close() }
    }
}
