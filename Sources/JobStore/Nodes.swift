// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

import FoundationEssentials
package import JobModel
import Postgres
import Support

/// Announces a node under a new lease, and gives it a random number. A database that comes back without its last commits
/// would give the next number of a sequence to another node.
struct RegisterNode: Command {
    let id: UUID
    let name: String
    let version: String
    let concurrency: Int32
    let kinds: [Int32]
    let leaseMilliseconds: Int64

    static let statement = ParameterizedStatement<Self>(
        "register_node",
        """
        INSERT INTO node (id, uid, name, version, concurrency, kinds, lease_until) OVERRIDING SYSTEM VALUE
        SELECT id, \(\.id), \(\.name), \(\.version), \(\.concurrency), \(\.kinds),
            now() + \(\.leaseMilliseconds) * interval '1 millisecond'
        -- Above the numbers that nodes of an earlier release get, which count from 1.
        FROM (SELECT 1073741824 + floor(random() * 1073741824)::int AS id FROM generate_series(1, 10)) AS random
        WHERE NOT EXISTS (SELECT FROM node WHERE node.id = random.id) LIMIT 1 RETURNING id
        """)
}

/// Sets the policies of kinds for runs whose node died.
struct SetInterruption: Command {
    let kinds: [Int32]
    let policies: [String]

    static let statement = ParameterizedStatement<Self>(
        "set_interruption",
        """
        UPDATE kind SET on_interruption = t.policy
        FROM unnest(\(\.kinds), \(\.policies)) AS t (id, policy)
        WHERE kind.id = t.id AND kind.on_interruption <> t.policy
        """)
}

/// Announces the kinds and the concurrency of a node whose lease holds, with the policies of its kinds.
struct AnnounceKinds: Command, StatementOfNode {
    let node: NodeID
    let kinds: [Int32]
    let concurrency: Int32
    let policies: [String]

    static let statement = ParameterizedStatement<Self>(
        "announce_kinds",
        """
        WITH announced AS (
            UPDATE node SET kinds = \(\.kinds), concurrency = \(\.concurrency)
            WHERE \(.isAlive) RETURNING id
        ), changed AS (
            UPDATE kind SET on_interruption = t.policy
            FROM unnest(\(\.kinds), \(\.policies)) AS t (id, policy)
            WHERE kind.id = t.id AND kind.on_interruption <> t.policy AND EXISTS (SELECT FROM announced)
        )
        SELECT count(*) AS announced FROM announced
        """)
}

/// Renews a node's lease. It does nothing if the database does not have the node, or not the kinds that the node knows,
/// because it has lost commits.
struct RenewNode: Command, StatementOfNode {
    let node: NodeID
    let leaseMilliseconds: Int64
    /// The kinds that the node handles, by number and name.
    let kinds: [Int32]
    let names: [String]

    static let statement = ParameterizedStatement<Self>(
        "renew_node",
        """
        UPDATE node SET heartbeat_at = now(),
            lease_until = now() + \(\.leaseMilliseconds) * interval '1 millisecond'
        WHERE \(.isAlive) AND NOT EXISTS (
            SELECT FROM unnest(\(\.kinds), \(\.names)) AS known (id, name)
            WHERE NOT EXISTS (SELECT FROM kind WHERE kind.id = known.id AND kind.name = known.name))
        """)
}

/// Finds the runs of a node that were asked to stop.
struct FindCancels: Command {
    let node: Int32

    static let statement = ParameterizedStatement<Self>(
        "find_cancels",
        """
        SELECT number, token, started_at, coalesce(cancel_reason, '') AS note FROM live
        WHERE state = 'running' AND node = \(\.node) AND cancel_requested_at IS NOT NULL
        """)

    static func read(_ result: QueryResult) throws(PostgresError) -> [(run: RunFence, note: String)] {
        let fence = try FenceReader(result)
        let note: Column<String> = try result.column("note")
        var cancels: [(run: RunFence, note: String)] = []
        for row in result { cancels.append((try fence.fence(row), try row[note])) }
        return cancels
    }
}

/// Finds the runs that the database has for a node and the node does not know.
struct FindStrays: Command {
    let node: Int32
    /// The runs that the node knows.
    let known: KnownRuns

    static let statement = ParameterizedStatement<Self>(
        "find_strays",
        .lostRuns(
            where: """
                live.node = \(\.node) AND (live.number, live.token, live.started_at) NOT IN (
                    SELECT * FROM unnest(\(\.known.numbers), \(\.known.tokens), \(\.known.startedAts)))
                """))
}

/// Finds the runs that a node knows and the database does not have for it.
struct FindGhosts: Command {
    let node: Int32
    /// The runs that the node knows.
    let known: KnownRuns

    static let statement = ParameterizedStatement<Self>(
        "find_ghosts",
        """
        SELECT known.number, known.token, known.started_at
        FROM unnest(\(\.known.numbers), \(\.known.tokens), \(\.known.startedAts)) AS known (number, token, started_at)
        WHERE NOT EXISTS (SELECT FROM live WHERE \(.isRun("known")) AND live.node = \(\.node))
        """)
}

/// The runs that a node knows, in columns.
struct KnownRuns: Sendable {
    let numbers: [Int64]
    let tokens: [Int64]
    let startedAts: [Timestamp]

    init(_ runs: [RunFence]) {
        numbers = runs.map(\.number)
        tokens = runs.map(\.token)
        startedAts = runs.map(\.startedAt)
    }
}

/// Counts the other nodes that are alive.
struct CountPeers: Command {
    let node: Int32

    static let statement = ParameterizedStatement<Self>(
        "count_peers",
        """
        SELECT count(*) AS peers FROM node
        WHERE id <> \(\.node) AND ended_at IS NULL AND lease_until > now()
        """)
}

struct EndNode: Command {
    let node: NodeID

    static let statement = ParameterizedStatement<Self>(
        "end_node",
        "UPDATE node SET ended_at = now() WHERE id = \(\.node.number) AND uid = \(\.node.uid) AND ended_at IS NULL"
    )
}

/// Finds the runs of ended nodes. Runs of kinds with other policies are left out, however many there are.
struct FindOrphans: Command {
    /// The policies that this version knows.
    let policies: [String]

    static let statement = ParameterizedStatement<Self>(
        "find_orphans",
        .lostRuns(
            where: """
                live.node IN (\(.endedNodes))
                    AND live.kind IN (SELECT id FROM kind WHERE on_interruption = ANY (\(\.policies)))
                """))
}

/// Finds the kinds whose orphans are left alone because this version does not know their policy.
struct FindUnknownPolicies: Command {
    /// The policies that this version knows.
    let policies: [String]

    static let statement = ParameterizedStatement<Self>(
        "find_unknown_policies",
        """
        SELECT name, on_interruption FROM kind WHERE on_interruption <> ALL (\(\.policies)) AND EXISTS (
            SELECT FROM live
            WHERE live.state = 'running' AND live.kind = kind.id AND live.node IN (\(.endedNodes)))
        ORDER BY id LIMIT 100
        """)
}

/// Makes scheduled jobs that are due ready.
struct PromoteDue: Command {
    let countMax: Int64

    static let statement = ParameterizedStatement<Self>(
        "promote_due",
        """
        WITH due AS (
            SELECT number FROM live WHERE state = 'scheduled' AND due_at <= now()
            ORDER BY due_at LIMIT \(\.countMax) FOR UPDATE SKIP LOCKED
        )
        UPDATE live SET state = 'ready' FROM due
        WHERE live.number = due.number AND live.token IS NULL
        """)
}

extension Statement {
    /// Ends the nodes whose lease has ended. They cannot renew it any more, so their runs may be given to others.
    static let endDeadNodes = Statement(
        "end_dead_nodes",
        "UPDATE node SET ended_at = now() WHERE ended_at IS NULL AND lease_until <= now()")

    /// The time until the next scheduled job is due.
    static let nextDue = Statement(
        "next_due",
        """
        SELECT (extract(epoch FROM due_at - clock_timestamp()) * 1000000)::bigint AS microseconds FROM live
        WHERE state = 'scheduled' ORDER BY due_at LIMIT 1
        """)

    /// The kinds that live nodes handle.
    static let liveKinds = Statement(
        "live_kinds",
        """
        SELECT DISTINCT kind.name FROM node CROSS JOIN LATERAL unnest(node.kinds) AS k (id)
        JOIN kind ON kind.id = k.id WHERE node.ended_at IS NULL AND node.lease_until > now()
        """)
}

/// Names a node in the statements that it may make only as long as it is alive.
struct NodeID: Sendable, Hashable {
    var number: Int32
    /// Made anew at each registration.
    var uid: UUID

    /// A node that has not registered.
    static let none = NodeID(number: 0, uid: UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)))
}

/// A statement that a node makes only as long as it is alive.
protocol StatementOfNode {
    var node: NodeID { get }
}

extension SQL where Input: StatementOfNode {
    /// The condition that a row of `node` is this node, and that its lease holds. It uses `clock_timestamp`, because a claim
    /// may wait within its transaction.
    static var isAlive: SQL {
        """
        node.id = \(\.node.number) AND node.uid = \(\.node.uid) AND node.ended_at IS NULL
            AND node.lease_until > clock_timestamp()
        """
    }
}

extension SQL {
    fileprivate static var endedNodes: SQL { "SELECT id FROM node WHERE ended_at IS NOT NULL" }

    /// Selects running jobs, for `RunReader`, with user, queue, node, policy and cancel note. They are found
    /// first, because they are few, however large the tables are.
    fileprivate static func lostRuns(where condition: SQL) -> SQL {
        """
        WITH lost AS MATERIALIZED (
            SELECT live.* FROM live WHERE live.state = 'running' AND \(condition) LIMIT 1000
        )
        SELECT \(.runColumns(of: "lost")), job.user_id, queue.name AS queue, coalesce(node.name, '') AS node,
            kind.on_interruption,
            CASE WHEN lost.cancel_requested_at IS NOT NULL THEN coalesce(lost.cancel_reason, '') END AS cancel_reason
        FROM lost LEFT JOIN node ON node.id = lost.node
        JOIN job ON \(.lookUp("job.number", "lost.number")) JOIN kind ON kind.id = job.kind
        JOIN lane ON lane.id = lost.lane JOIN queue ON queue.id = lane.queue
        """
    }
}

/// Reads the rows of `SQL.lostRuns`.
private struct LostRunReader {
    private let runs: RunReader
    private let userID: Column<ExactText>
    private let queue: Column<String>
    private let node: Column<String>
    private let policy: Column<String>
    private let cancelNote: Column<String?>

    init(_ result: QueryResult) throws(PostgresError) {
        runs = try RunReader(result, isClaim: false)
        userID = try result.column("user_id")
        queue = try result.column("queue")
        node = try result.column("node")
        policy = try result.column("on_interruption")
        cancelNote = try result.column("cancel_reason")
    }

    func run(_ row: Row) throws(PostgresError) -> ClaimedRun {
        try runs.run(row, userID: try row[userID], queue: try row[queue])
    }

    func orphan(_ row: Row) throws(PostgresError) -> OrphanedRun {
        let kind = try row[runs.kind]
        return OrphanedRun(
            run: try run(row), node: try row[node],
            onInterruption: try row.word(policy, "interruption policy", of: "kind \(kind)"),
            cancelNote: try row[cancelNote])
    }
}

extension JobStore {
    /// Announces a node under a new lease. Returns the numbers of the node and of its kinds.
    package func register(
        _ node: NodeDescription, lease: Duration
    ) async throws(StoreError) -> (node: Int32, kinds: [String: Int32]) {
        // The database may have lost what this node remembers.
        if nodeNumber != 0 { catalog.forget() }
        let registered = try await run("register") { [catalog] connection throws(PostgresError) in
            let known = try catalog.kinds(Array(node.kinds.keys), connection)
            let ids = node.kinds.keys.compactMap { known[$0] }
            let result = try connection.transaction([
                Query(
                    SetInterruption(
                        kinds: node.kinds.keys.compactMap { known[$0] },
                        policies: node.kinds.values.map(\.rawValue))),
                Query(
                    RegisterNode(
                        id: node.id, name: node.name, version: node.version,
                        concurrency: Int32(node.concurrency), kinds: ids,
                        leaseMilliseconds: lease.milliseconds)),
            ])
            let number: Int32 = try result[1].onlyRow[result[1].column("id")]
            return (node: number, kinds: known)
        }
        setNode(NodeID(number: registered.node, uid: node.id), name: node.name, kinds: registered.kinds)
        return registered
    }

    package func announce(
        kinds: [String: Interruption], concurrency: Int
    ) async throws(StoreError) -> [String: Int32]? {
        let node = nodeID
        let numbers = try await run("announce") {
            [catalog] connection throws(PostgresError) -> [String: Int32]? in
            let known = try catalog.kinds(Array(kinds.keys), connection)
            let result = try connection.execute(
                AnnounceKinds(
                    node: node, kinds: kinds.keys.compactMap { known[$0] }, concurrency: Int32(concurrency),
                    policies: kinds.values.map(\.rawValue)))
            let count: Int64 = try result.onlyRow[result.column("announced")]
            return count == 1 ? known : nil
        }
        if let numbers { setKinds(numbers, of: node) }
        return numbers
    }

    /// Renews the lease of every run of this node, on a connection of its own, so that no other work delays it.
    ///
    /// - Parameter known: the runs that the node knows of.
    package func renew(
        lease: Duration, known: [RunFence], timeout: Duration
    ) async throws(StoreError) -> Renewal {
        let (node, kinds) = nodeAndKinds
        let known = KnownRuns(known)
        return try await runForLease("renew", timeout: timeout) { connection throws(PostgresError) in
            let results = try connection.transaction([
                Query(
                    RenewNode(
                        node: node, leaseMilliseconds: lease.milliseconds, kinds: Array(kinds.values),
                        names: Array(kinds.keys))),
                Query(FindCancels(node: node.number)), Query(CountPeers(node: node.number)),
                Query(FindStrays(node: node.number, known: known)),
                Query(FindGhosts(node: node.number, known: known)),
            ])
            let peers: Int64 = try results[2].onlyRow[results[2].column("peers")]
            var renewal = Renewal(
                isAlive: results[0].affectedRows == 1, cancels: try FindCancels.read(results[1]), strays: [],
                hasPeers: peers > 0)
            let reader = try LostRunReader(results[3])
            for row in results[3] { renewal.strays.append(try reader.run(row)) }
            let fence = try FenceReader(results[4])
            for row in results[4] { renewal.ghosts.append(try fence.fence(row)) }
            return renewal
        }
    }

    /// The runs of this node that were asked to stop.
    package func cancelRequests() async throws(StoreError) -> [(run: RunFence, note: String)] {
        let node = nodeNumber
        return try await run("cancel_requests") { connection throws(PostgresError) in
            try FindCancels.read(try connection.execute(FindCancels(node: node)))
        }
    }

    /// Ends the node's lease. Other nodes may take its runs at once.
    package func endNode() async throws(StoreError) {
        let node = nodeID
        _ = try await run("end_node") { connection throws(PostgresError) in
            try connection.execute(EndNode(node: node)).affectedRows
        }
    }

    /// Ends the nodes whose lease has expired, and returns the runs that they left behind. They are to be ended
    /// with `finish` under their own tokens; the first node that does so wins. Runs of kinds whose policy this
    /// version does not know are left to nodes that know it.
    package func orphans() async throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy]) {
        try await run("orphans") { connection throws(PostgresError) in
            let policies = Interruption.allCases.map(\.rawValue)
            let results = try connection.transaction([
                Query(.endDeadNodes), Query(FindOrphans(policies: policies)),
                Query(FindUnknownPolicies(policies: policies)),
            ])
            let reader = try LostRunReader(results[1])
            var runs: [OrphanedRun] = []
            for row in results[1] { runs.append(try reader.orphan(row)) }
            let kind: Column<String> = try results[2].column("name")
            let policy: Column<ExactText> = try results[2].column("on_interruption")
            var unknown: [UnknownPolicy] = []
            for row in results[2] {
                unknown.append(UnknownPolicy(kind: try row[kind], policy: try row[policy]))
            }
            return (runs, unknown)
        }
    }

    /// Makes due jobs ready. Returns how many, and how long until the next one is due.
    package func promoteDue() async throws(StoreError) -> (promoted: Int, next: Duration?) {
        try await run("promote") { connection throws(PostgresError) in
            let results = try connection.transaction([
                Query(PromoteDue(countMax: 1000)), Query(.nextDue),
            ])
            let next: Int64? = try results[1].first?[results[1].column("microseconds")]
            return (results[0].affectedRows, next.map { .microseconds(max(0, $0)) })
        }
    }

    /// The kinds that a live node handles.
    package func liveKinds() async throws(StoreError) -> Set<String> {
        try await run("live_kinds") { connection throws(PostgresError) in
            var kinds: Set<String> = []
            let result = try connection.execute(.liveKinds)
            let name: Column<String> = try result.column("name")
            for row in result { kinds.insert(try row[name]) }
            return kinds
        }
    }
}
