import JobCore
package import Postgres

/// A change that some node committed.
package struct RemoteChange: Sendable {
    package var number: Int64
    package var lane: Int64
    /// Of the job's last event; 0: its progress, log or a request to stop.
    package var sequence: Int64
}

/// Where a node is in the feed of changes.
///
/// Rows become visible in the order of their commits, which is not that of their ids, nor that of their
/// transactions' ids. So the place is a snapshot (`pg_current_snapshot`): what was visible in it was read,
/// what is visible now and was not then is new. Within one reading, pages go on after the last row.
package struct ChangeCursor: Sendable {
    /// What was visible in it was read.
    var base: String
    /// While there are more pages: the first page's snapshot, up to which they go, and the last row read.
    var reading: (until: String, xid: Int64, id: Int64)?
}

package struct ChangeBatch: Sendable {
    package var changes: [RemoteChange] = []
    /// Somebody asked a running job to stop.
    package var hasCancels = false
    /// Another node has changed something (only known where everything is read).
    package var hasRemote = false
    package var cursor: ChangeCursor
    /// There is more to read at once.
    package var hasMore = false
}

/// Which changes to read.
package enum ChangeInterest: Sendable {
    /// Only whether somebody asked a job to stop.
    case cancels
    /// Those of other nodes.
    case otherNodes
    /// Those of this node too.
    case allNodes
}

extension Statement {
    static let openChanges = Statement("open_changes", "SELECT pg_current_snapshot()::text")

    /// The first row's columns may be null: then there is only the snapshot.
    static let readChanges = Statement(
        "read_changes",
        """
        SELECT now.snapshot::text, c.id, c.xid::text::bigint, c.node <> $5, c.cancels,
            CASE WHEN $6 THEN c.jobs END, CASE WHEN $6 THEN c.lanes END,
            CASE WHEN $6 THEN c.sequences END
        FROM (SELECT pg_current_snapshot() AS snapshot) AS now LEFT JOIN LATERAL (
            SELECT * FROM change
            WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot)
                AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
                AND ($2::text IS NULL OR pg_visible_in_snapshot(xid, $2::text::pg_snapshot))
                AND (xid, id) > ($3::bigint::text::xid8, $4::bigint)
                AND (cancels OR $6) AND (node <> $5 OR $7)
            ORDER BY xid, id LIMIT $8
        ) c ON true
        """)

    static let trimChanges = Statement(
        "trim_changes", "DELETE FROM change WHERE at < now() - $1 * interval '1 millisecond'")

    static let findLanes = Statement(
        "find_lane_names",
        """
        SELECT l.id, l.user_id, q.name FROM lane l JOIN queue q ON q.id = l.queue
        WHERE l.id = ANY ($1::bigint[])
        """)

    static let currentSchema = Statement("current_schema", "SELECT coalesce(current_schema()::text, '')")

    static let notify = Statement("notify", "SELECT pg_notify($1, $2)")
}

extension JobStore {
    private static let changesPerRead = 200
    /// How long changes are kept: much longer than any node is late that still holds its lease.
    package static let changesKept: Duration = .seconds(120)

    /// Where the feed is now: a read from here misses nothing that commits from now on.
    package func openChanges() async throws(StoreError) -> ChangeCursor {
        ChangeCursor(
            base: try await run("open_changes") { connection throws(PostgresError) in
                try connection.execute(.openChanges).onlyRow.string(0)
            })
    }

    /// What was committed since.
    package func changes(
        since cursor: ChangeCursor, _ interest: ChangeInterest
    ) async throws(StoreError) -> ChangeBatch {
        let node = nodeNumber
        return try await run("changes") { connection throws(PostgresError) in
            let result = try connection.execute(
                .readChanges,
                Parameters {
                    $0.append(cursor.base)
                    $0.append(cursor.reading?.until)
                    $0.append(cursor.reading?.xid ?? 0)
                    $0.append(cursor.reading?.id ?? 0)
                    $0.append(node)
                    $0.append(interest != .cancels)
                    $0.append(interest == .allNodes)
                    $0.append(Int64(Self.changesPerRead))
                })
            var batch = ChangeBatch(cursor: cursor)
            var until = cursor.reading?.until
            var last: (xid: Int64, id: Int64) = (0, 0)
            for row in result {
                if until == nil { until = try row.string(0) }
                guard let id = try row.optionalInt64(1) else { continue }
                last = (try row.int64(2), id)
                if try row.bool(3) { batch.hasRemote = true }
                if try row.bool(4) { batch.hasCancels = true }
                guard interest != .cancels else { continue }
                let jobs = try row.int64Array(5)
                let lanes = try row.int64Array(6)
                let sequences = try row.int64Array(7)
                for index in jobs.indices {
                    batch.changes.append(
                        RemoteChange(number: jobs[index], lane: lanes[index], sequence: sequences[index]))
                }
            }
            batch.hasMore = result.rowCount == Self.changesPerRead
            if batch.hasMore, let until {
                batch.cursor.reading = (until, last.xid, last.id)
            } else {
                batch.cursor = ChangeCursor(base: until ?? cursor.base)
            }
            return batch
        }
    }

    /// Whose each lane is.
    package func lanes(_ ids: [Int64]) async throws(StoreError) -> [Int64: (userID: String, queue: String)] {
        try await run("lanes") { connection throws(PostgresError) in
            var lanes: [Int64: (userID: String, queue: String)] = [:]
            for row in try connection.execute(.findLanes, Parameters { $0.append(ids) }) {
                lanes[try row.int64(0)] = (try row.string(1), try row.string(2))
            }
            return lanes
        }
    }

    /// The channel on which the nodes of this schema tell each other that something changed.
    package static func notifyChannel(_ database: Database) async throws(StoreError) -> String {
        do {
            return try await database.run("schema") { connection throws(PostgresError) in
                "signalbox_" + (try connection.execute(.currentSchema).onlyRow.string(0)).prefix(50)
            }
        } catch {
            throw StoreError(error)
        }
    }

    /// Tells the other nodes that there is something to read.
    package func notifyPeers() async throws(StoreError) {
        let node = nodeNumber
        _ = try await run("notify") { [notifyChannel] connection throws(PostgresError) in
            try connection.execute(
                .notify,
                Parameters {
                    $0.append(notifyChannel)
                    $0.append(String(node))
                }
            ).rowCount
        }
    }

    package func trimChanges() async throws(StoreError) {
        _ = try await run("trim_changes") { connection throws(PostgresError) in
            try connection.execute(
                .trimChanges, Parameters { $0.append(Self.changesKept.milliseconds) }
            ).affectedRows
        }
    }
}
