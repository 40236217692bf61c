import FoundationEssentials
package import JobModel
import Postgres

/// Reads a page of nodes, newest first.
struct ListNodes: Command {
    /// The users whose running jobs are named.
    let users: UserScope
    /// The number of the node behind which the page begins; 0: the first page.
    let before: Int64
    let size: Int64

    static let statement = ParameterizedStatement<Self>(
        "list_nodes",
        """
        SELECT node.id, node.uid, node.name, node.version, node.started_at, node.heartbeat_at,
            node.ended_at IS NULL AND node.lease_until > now() AS is_alive, node.concurrency,
            (SELECT coalesce(array_agg(kind.name ORDER BY kind.name), '{}') FROM kind
                WHERE kind.id = ANY (node.kinds)) AS kinds,
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.node = node.id) AS running,
            (SELECT coalesce(array_agg(r.id), '{}') FROM (
                SELECT job.id FROM live JOIN job USING (number)
                WHERE live.state = 'running' AND live.node = node.id AND \(.isAllowed("job.user_id", \.users))
                ORDER BY number LIMIT 100) r) AS running_jobs
        FROM node
        WHERE (\(\.before) = 0 OR (node.started_at, node.id) < (
                SELECT last.started_at, last.id FROM node last WHERE last.id = \(\.before)))
            AND (node.ended_at IS NULL OR node.ended_at > now() - interval '1 hour')
            AND node.heartbeat_at > now() - interval '1 hour'
        ORDER BY node.started_at DESC, node.id DESC LIMIT \(\.size)
        """)
}

extension JobStore {
    /// One page of the nodes, newest first, with the ids of their running jobs that belong to these users. The position of a
    /// node is its number.
    package func nodes(
        for users: UserScope, before position: Int64?, size: Int
    ) async throws(StoreError) -> StorePage<NodeRecord> {
        try await read("nodes", isLong: true) { connection throws(PostgresError) in
            let result = try connection.execute(
                ListNodes(users: users, before: position ?? 0, size: Int64(size + 1)))
            let number: Column<Int32> = try result.column("id")
            let id: Column<UUID> = try result.column("uid")
            let name: Column<String> = try result.column("name")
            let version: Column<String> = try result.column("version")
            let startedAt: Column<Timestamp> = try result.column("started_at")
            let heartbeatAt: Column<Timestamp> = try result.column("heartbeat_at")
            let isAlive: Column<Bool> = try result.column("is_alive")
            let concurrency: Column<Int32> = try result.column("concurrency")
            let kinds: Column<[String]> = try result.column("kinds")
            let running: Column<Int64> = try result.column("running")
            let runningJobs: Column<[JobID]> = try result.column("running_jobs")
            var nodes: [(item: NodeRecord, position: Int64)] = []
            for row in result {
                let node = NodeRecord(
                    id: try row[id], name: try row[name], version: try row[version],
                    startedAt: try row[startedAt], heartbeatAt: try row[heartbeatAt],
                    isAlive: try row[isAlive], concurrency: Int(try row[concurrency]),
                    kinds: try row[kinds], running: Int(try row[running]),
                    runningJobs: try row[runningJobs])
                nodes.append((node, Int64(try row[number])))
            }
            return StorePage(nodes, size: size)
        }
    }
}
