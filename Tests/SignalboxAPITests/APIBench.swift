import Foundation
import JobModel
import JobService
import JobWatch
import SignalboxProto
import JobStore
import Logging
import NIOCore
import Postgres
import GRPC
import Support
import TestDatabase
import Testing

@testable import SignalboxAPI

/// The services over a schema of its own, without workers, and a client of them. Whoever calls names itself: what a
/// credential proves is tested elsewhere.
struct APIBench: Sendable {
    enum Path {
        static let job = "/signalbox.v1.JobService/"
        static let admin = "/signalbox.v1.AdminService/"
    }

    private struct Callers: Admission {
        let callersMayEnd = false
        let byName: [String: UserScope]

        func admit(_ request: AdmissionRequest) -> AdmissionAnswer {
            let name = request.authorization ?? ""
            guard let users = byName[name] else {
                return .refused(AdmissionRefusal(Status(.unauthenticated, ""), reason: "unauthenticated"))
            }
            return .admitted(
                AdmittedCaller(
                    Caller(
                        name: name, source: .token, address: request.peer.address, users: users,
                        scopes: name == "root" ? Scope.all : Scope.all.subtracting([.admin]))))
        }
    }

    let schema: TestSchema
    let store: JobStore
    let database: Database
    let kinds: [Int32]
    let heartbeatInterval: Duration
    let client: Client
    /// Of the methods that it serves.
    let paths: [String]

    /// - Parameter callers: for whom each may act, by its name. `root` alone is told of nodes.
    static func with<R: Sendable>(
        callers: [String: UserScope] = [
            "root": .all, "a": .only(["a"]), "b": .only(["b"]), "ab": .only(["a", "b"]),
        ],
        limits: UserQuotas.Limits = UserQuotas.Limits(), _ body: (APIBench) async throws -> R
    ) async throws -> R {
        let quiet = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }
        return try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 4) { database in
                _ = try await Migrator.migrate(database)
                let store = JobStore(database: database, leaseDatabase: database)
                let kinds = try await store.register(
                    NodeDescription(
                        id: UUID(), name: "one", version: "1", concurrency: 1, kinds: ["k": .retry]),
                    lease: .seconds(600)
                ).kinds.map(\.value)
                let changes = ChangeFeed(store: store, logger: quiet)
                let hub = WatchHub(
                    store: store, tokens: ResumeTokens(secret: Array(0..<32)), logger: quiet)
                changes.subscribe(hub)
                try await changes.open()
                let running = [Task { await changes.run() }, Task { await hub.run() }]
                defer { for task in running { task.cancel() } }
                let quotas = UserQuotas(store: store, limits: limits)
                var configuration = ServerConfiguration()
                configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
                configuration.eventLoopThreads = 1
                configuration.admission = Callers(byName: callers)
                configuration.errorMapper = { error, _ in StatusMapping.status(for: error) }
                let pageTokens = PageTokens(secret: try await store.secret(PageTokens.secretName))
                let jobs = JobOperations(
                    store: store, kinds: KnownKinds(store: store, isOwn: { $0 == "k" }), quotas: quotas,
                    pageTokens: pageTokens)
                let watches = WatchOperations(store: store, hub: hub, quotas: quotas)
                let admin = AdminOperations(store: store, defaultUserLimit: 3, pageTokens: pageTokens)
                let info = InfoOperations(
                    version: "1.2.3", node: "one", heartbeatInterval: hub.heartbeatInterval,
                    retention: .seconds(99))
                let methods =
                    JobServiceHandlers(jobs: jobs).methods + [WatchHandler(watches: watches).method]
                    + AdminServiceHandlers(admin: admin).methods + [InfoServiceHandler(info: info).method]
                let server = Server(configuration: configuration, methods: methods, logger: quiet)
                try await server.start()
                do {
                    let client = try await Client.connect(
                        host: "127.0.0.1", port: server.port ?? 0, logger: quiet)
                    let value = try await body(
                        APIBench(
                            schema: schema, store: store, database: database, kinds: kinds,
                            heartbeatInterval: hub.heartbeatInterval, client: client,
                            paths: methods.map(\.path)))
                    await client.close()
                    await server.shutdown(grace: .zero)
                    return value
                } catch {
                    await server.shutdown(grace: .zero)
                    throw error
                }
            }
        }
    }

    func call<Response: ResponseMessage>(
        _ path: String, _ request: some RequestMessage, as name: String, _: Response.Type = Response.self
    ) async throws -> Response {
        try Response.decode(
            try await client.unary(
                path, request.encode(), metadata: ["authorization": name], timeout: .seconds(30)))
    }

    /// How a call ends.
    func status(_ path: String, _ request: some RequestMessage, as name: String) async throws -> Status {
        do {
            let answers = try await client.serverStreaming(
                path, request.encode(), metadata: ["authorization": name], timeout: .seconds(30))
            for try await bytes in answers {
                // A watch opens before it reads its jobs.
                if path.hasSuffix("/Watch"), case .opened = try WatchResponse.decode(bytes).event { continue }
                return Status(.ok)
            }
            return Status(.ok)
        } catch let status as Status {
            return status
        }
    }

    @discardableResult
    func enqueue(_ user: String, as name: String, _ change: (inout JobSpecDraft) -> Void = { _ in })
        async throws
        -> JobRecord
    {
        var draft = JobSpecDraft()
        draft.kind = "k"
        draft.userID = ExactText(user)
        change(&draft)
        let request = EnqueueRequest(job: draft)
        return try await call(Path.job + "Enqueue", request, as: name, EnqueueResponse.self).job
    }

    func watch(_ request: WatchRequest, as name: String) async throws -> ResponseStream.AsyncIterator {
        try await client.serverStreaming(
            Path.job + "Watch", request.encode(), metadata: ["authorization": name], timeout: .seconds(30)
        ).makeAsyncIterator()
    }

    func count(_ sql: String) async throws -> Int {
        try await database.run("count") { connection throws(PostgresError) in
            Int(try connection.execute(Statement(nil, "SELECT count(*) FROM \(sql)")).onlyRow.int64(0))
        }
    }

    func texts(_ sql: String) async throws -> [String] {
        try await database.run("texts") { connection throws(PostgresError) in
            var texts: [String] = []
            for row in try connection.execute(Statement(nil, sql)) { texts.append(try row.string(0)) }
            return texts
        }
    }
}

extension Status {
    var decodedDetails: StatusDetails { get throws { try StatusDetails.decode(details) } }
}
