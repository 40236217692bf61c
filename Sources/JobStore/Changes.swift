import JobCore
package import Postgres

/// Changes that another node committed.
package struct RemoteChange: Sendable {
    package var number: Int64
    package var lane: Int64
    /// Of the job's last event; 0: its progress, log or a request to stop.
    package var sequence: Int64
}

/// Where a node is in the feed of changes.
///
/// Rows become visible in the order of their commits, and a transaction with a lower id may commit later.
/// So the next read begins with the oldest transaction that was still open at this one, and leaves out
/// the rows that were read already.
package struct ChangeCursor: Sendable {
    var xid: Int64 = 0
    var seen: [Int64] = []
    package init() {}
}

package struct ChangeBatch: Sendable {
    package var changes: [RemoteChange] = []
    /// Somebody asked a running job to stop.
    package var hasCancels = false
    package var cursor = ChangeCursor()
    /// There is more to read at once.
    package var hasMore = false
    package var isEmpty: Bool { changes.isEmpty && !hasChanges }
    /// There was something, though it was not wanted in full.
    var hasChanges = false
}

extension Statement {
    static let openChanges = Statement(
        "open_changes", "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")

    static let readChanges = Statement(
        "read_changes",
        """
        SELECT id, jobs, lanes, sequences, cancels, pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        FROM change
        WHERE xid >= $1::bigint::text::xid8 AND node <> $2 AND NOT (id = ANY ($3::bigint[]))
            AND ($4 OR cancels)
        ORDER BY xid, id LIMIT $5
        """)

    static let trimChanges = Statement(
        "trim_changes", "DELETE FROM change WHERE at < now() - $1 * interval '1 millisecond'")

    static let currentSchema = Statement("current_schema", "SELECT coalesce(current_schema()::text, '')")

    static let notify = Statement("notify", "SELECT pg_notify($1, $2)")
}

extension JobStore {
    private static let changesPerRead: Int64 = 1000
    /// How long changes are kept: much longer than any node is late that still holds its lease.
    package static let changesKept: Duration = .seconds(120)

    /// Where the feed is now: a read from here misses nothing that commits from now on.
    package func openChanges() async throws(StoreError) -> ChangeCursor {
        let xid = try await run("open_changes") { connection throws(PostgresError) in
            try connection.execute(.openChanges).onlyRow.int64(0)
        }
        var cursor = ChangeCursor()
        cursor.xid = xid
        return cursor
    }

    /// What other nodes have committed since. Without `all`, only whether somebody asked a job to stop.
    package func changes(
        since cursor: ChangeCursor, all: Bool
    ) async throws(StoreError) -> ChangeBatch {
        let node = nodeNumber
        return try await run("changes") { connection throws(PostgresError) in
            let results = try connection.transaction([
                Query(.openChanges),
                Query(
                    .readChanges,
                    Parameters {
                        $0.append(cursor.xid)
                        $0.append(node)
                        $0.append(cursor.seen)
                        $0.append(all)
                        $0.append(Self.changesPerRead)
                    }),
            ])
            var batch = ChangeBatch()
            var read: [Int64] = []
            for row in results[1] {
                read.append(try row.int64(0))
                let jobs = try row.int64Array(1)
                let lanes = try row.int64Array(2)
                let sequences = try row.int64Array(3)
                if try row.bool(4) { batch.hasCancels = true }
                for index in jobs.indices where all {
                    batch.changes.append(
                        RemoteChange(number: jobs[index], lane: lanes[index], sequence: sequences[index]))
                }
            }
            batch.hasChanges = !read.isEmpty
            batch.hasMore = read.count == Self.changesPerRead
            // The first statement's snapshot is older than the second one's: nothing falls in between.
            let xmin = try results[0].onlyRow.int64(0)
            if xmin > cursor.xid, !batch.hasMore {
                batch.cursor.xid = xmin
                // Rows of transactions after `xmin` may come again; older ones do not.
                batch.cursor.seen = read
            } else {
                batch.cursor.xid = cursor.xid
                // More than are kept in the feed need not be remembered.
                batch.cursor.seen = Array((cursor.seen + read).suffix(20_000))
            }
            return batch
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
