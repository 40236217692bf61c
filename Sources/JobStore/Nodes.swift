// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

package import FoundationEssentials
package import JobModel
import Postgres
package import Support

extension Statement {
    static let registerNode = Statement(
        "register_node",
        """
        INSERT INTO node (uid, name, version, concurrency, kinds, lease_until)
        VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond') RETURNING id
        """)
    static let setInterruption = Statement(
        "set_interruption",
        """
        UPDATE kind SET on_interruption = t.policy
        FROM unnest($1::int[], $2::text[]) AS t (id, policy)
        WHERE kind.id = t.id AND kind.on_interruption <> t.policy
        """)
    static let renewNode = Statement(
        "renew_node",
        """
        UPDATE node SET heartbeat_at = now(), lease_until = now() + $2 * interval '1 millisecond'
        WHERE id = $1 AND ended_at IS NULL AND lease_until > now()
        """)
    static let findCancels = Statement(
        "find_cancels",
        """
        SELECT token, coalesce(cancel_reason, '') FROM live
        WHERE state = 'running' AND node = $1 AND cancel_requested_at IS NOT NULL
        """)
    static let findStrays = Statement(
        "find_strays", runs(where: "live.node = $1 AND NOT (live.token = ANY ($2::bigint[]))"))
    static let countPeers = Statement(
        "count_peers",
        "SELECT count(*) FROM node WHERE id <> $1 AND ended_at IS NULL AND lease_until > now()")
    static let endNode = Statement(
        "end_node", "UPDATE node SET ended_at = now() WHERE id = $1 AND ended_at IS NULL")
    /// From here on these nodes cannot renew: what they run may be given to others.
    static let endDeadNodes = Statement(
        "end_dead_nodes",
        "UPDATE node SET ended_at = now() WHERE ended_at IS NULL AND lease_until <= now()")
    /// Those of kinds with one of the policies $1: however many others there are, they hold up none of these.
    static let findOrphans = Statement(
        "find_orphans",
        runs(
            where: """
                live.node IN (\(endedNodes))
                    AND live.kind IN (SELECT id FROM kind WHERE on_interruption = ANY ($1::text[]))
                """))
    /// The kinds of the orphans that are left alone because their policy is none of $1.
    static let findUnknownPolicies = Statement(
        "find_unknown_policies",
        """
        SELECT name, on_interruption FROM kind WHERE on_interruption <> ALL ($1::text[]) AND EXISTS (
            SELECT FROM live WHERE live.state = 'running' AND live.kind = kind.id AND live.node IN (\(endedNodes)))
        ORDER BY id LIMIT 100
        """)
    private static let endedNodes = "SELECT id FROM node WHERE ended_at IS NOT NULL"

    /// Running jobs as `ClaimedRun` reads them, then user, queue, node, policy and cancel reason. There are few of them
    /// whatever the tables hold, so they are found first.
    private static func runs(where condition: String) -> String {
        """
        WITH lost AS MATERIALIZED (
            SELECT live.* FROM live WHERE live.state = 'running' AND \(condition) LIMIT 1000
        )
        SELECT lost.number, lost.lane, job.id, lost.token, lost.attempt, lost.max_attempts, lost.sequence,
            lost.started_at, kind.name, ''::bytea, job.content_type,
            job.max_attempts, job.timeout_ms, job.soft_timeout_ms, job.retry_initial_ms, job.retry_factor,
            job.retry_max_ms, job.retry_jitter, NULL::bytea, 0::bigint, job.user_id, queue.name,
            coalesce(node.name, ''), kind.on_interruption, CASE WHEN lost.cancel_requested_at IS NOT NULL
                THEN coalesce(lost.cancel_reason, '') END
        FROM lost LEFT JOIN node ON node.id = lost.node
        JOIN job ON \(lookUp("job.number", "lost.number")) JOIN kind ON kind.id = job.kind
        JOIN lane ON lane.id = lost.lane JOIN queue ON queue.id = lane.queue
        """
    }

    static let promoteDue = Statement(
        "promote_due",
        """
        WITH due AS (
            SELECT number FROM live WHERE state = 'scheduled' AND due_at <= now()
            ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
        )
        UPDATE live SET state = 'ready' FROM due
        WHERE live.number = due.number AND live.token IS NULL
        """)
    static let nextDue = Statement(
        "next_due",
        """
        SELECT (extract(epoch FROM due_at - clock_timestamp()) * 1000000)::bigint FROM live
        WHERE state = 'scheduled' ORDER BY due_at LIMIT 1
        """)
    static let liveKinds = Statement(
        "live_kinds",
        """
        SELECT DISTINCT kind.name FROM node CROSS JOIN LATERAL unnest(node.kinds) AS k (id)
        JOIN kind ON kind.id = k.id WHERE node.ended_at IS NULL AND node.lease_until > now()
        """)
}

extension JobStore {
    /// Announces a node under a new lease. Returns its number and those of its kinds.
    package func register(
        _ node: NodeDescription, lease: Duration
    ) async throws(StoreError) -> (node: Int32, kinds: [Int32]) {
        let registered = try await run("register") { [catalog] connection throws(PostgresError) in
            let known = try catalog.kinds(Array(node.kinds.keys), connection)
            let ids = node.kinds.keys.compactMap { known[$0] }
            let result = try connection.transaction([
                Query(
                    .setInterruption,
                    Parameters {
                        $0.append(node.kinds.keys.compactMap { known[$0] })
                        $0.append(node.kinds.values.map(\.rawValue))
                    }),
                Query(
                    .registerNode,
                    Parameters {
                        $0.append(node.id)
                        $0.append(node.name)
                        $0.append(node.version)
                        $0.append(Int32(node.concurrency))
                        $0.append(ids)
                        $0.append(lease.milliseconds)
                    }),
            ])
            return (node: try result[1].onlyRow.int32(0), kinds: ids)
        }
        setNode(number: registered.node, name: node.name)
        return registered
    }

    /// Renews the lease of every run of this node, on a connection of its own: nothing else delays it.
    ///
    /// - Parameter known: the tokens of the runs that the node knows of.
    package func renew(
        lease: Duration, known: [Int64], timeout: Duration
    ) async throws(StoreError) -> Renewal {
        let node = nodeNumber
        return try await runForLease("renew", timeout: timeout) { connection throws(PostgresError) in
            let results = try connection.transaction([
                Query(
                    .renewNode,
                    Parameters {
                        $0.append(node)
                        $0.append(lease.milliseconds)
                    }),
                Query(.findCancels, Parameters { $0.append(node) }),
                Query(.countPeers, Parameters { $0.append(node) }),
                Query(
                    .findStrays,
                    Parameters {
                        $0.append(node)
                        $0.append(known)
                    }),
            ])
            var renewal = Renewal(
                isAlive: results[0].affectedRows == 1, cancels: [], strays: [],
                hasPeers: try results[2].onlyRow.int64(0) > 0)
            for row in results[1] { renewal.cancels.append((try row.int64(0), try row.string(1))) }
            for row in results[3] {
                renewal.strays.append(
                    try ClaimedRun(row, userID: ExactText(try row.string(20)), queue: try row.string(21)))
            }
            return renewal
        }
    }

    /// Runs of this node that somebody has asked to stop.
    package func cancelRequests() async throws(StoreError) -> [(token: Int64, reason: String)] {
        let node = nodeNumber
        return try await run("cancel_requests") { connection throws(PostgresError) in
            var cancels: [(token: Int64, reason: String)] = []
            for row in try connection.execute(.findCancels, Parameters { $0.append(node) }) {
                cancels.append((try row.int64(0), try row.string(1)))
            }
            return cancels
        }
    }

    /// Says goodbye: what this node might still run is given to others.
    package func endNode() async throws(StoreError) {
        let node = nodeNumber
        _ = try await run("end_node") { connection throws(PostgresError) in
            try connection.execute(.endNode, Parameters { $0.append(node) }).affectedRows
        }
    }

    /// Gives up the nodes whose lease has ended and returns runs that they left behind, to be ended with
    /// `finish` under their own tokens: whichever node does it first wins. Runs of kinds whose policy this version does
    /// not know are left to nodes that know it.
    package func orphans() async throws(StoreError) -> (runs: [OrphanedRun], unknown: [UnknownPolicy]) {
        try await run("orphans") { connection throws(PostgresError) in
            let policies = Parameters { $0.append(Interruption.allCases.map(\.rawValue)) }
            let results = try connection.transaction([
                Query(.endDeadNodes), Query(.findOrphans, policies), Query(.findUnknownPolicies, policies),
            ])
            var runs: [OrphanedRun] = []
            for row in results[1] {
                let kind = try row.string(8)
                runs.append(
                    OrphanedRun(
                        run: try ClaimedRun(
                            row, userID: ExactText(try row.string(20)), queue: try row.string(21)),
                        node: try row.string(22),
                        onInterruption: try row.word(23, "interruption policy", of: "kind \(kind)"),
                        cancelReason: try row.optionalString(24)))
            }
            var unknown: [UnknownPolicy] = []
            for row in results[2] {
                unknown.append(UnknownPolicy(kind: try row.string(0), policy: ExactText(try row.string(1))))
            }
            return (runs, unknown)
        }
    }

    /// Makes due jobs ready. Returns how many, and how long until the next one is due.
    package func promoteDue() async throws(StoreError) -> (promoted: Int, next: Duration?) {
        try await run("promote") { connection throws(PostgresError) in
            let results = try connection.transaction([
                Query(.promoteDue, Parameters { $0.append(Int64(1000)) }), Query(.nextDue),
            ])
            let next = try results[1].first?.optionalInt64(0)
            return (results[0].affectedRows, next.map { .microseconds(max(0, $0)) })
        }
    }

    /// The kinds that a live node handles.
    package func liveKinds() async throws(StoreError) -> Set<String> {
        try await run("live_kinds") { connection throws(PostgresError) in
            var kinds: Set<String> = []
            for row in try connection.execute(.liveKinds) { kinds.insert(try row.string(0)) }
            return kinds
        }
    }
}
