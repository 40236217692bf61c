package import JobModel
package import Postgres
package import Support

/// A node's position in the change log.
///
/// Rows become visible in the order of their commits, which is neither that of their ids nor that of their
/// transactions' ids. So the position is a snapshot (`pg_current_snapshot`): rows that were visible in it have
/// been read, and rows that are visible now but were not visible in it are new. A read of several pages continues
/// each page after the last row of the previous one.
package struct ChangeCursor: Sendable {
    /// The snapshot up to which everything has been read.
    var base: ChangeSnapshot
    /// The last row that was read, and when. It tells whether the database still has what has been read.
    var anchor: (id: Int64, at: Timestamp, readAt: ContinuousClock.Instant)?
    /// Set between the pages of a read: the snapshot of the first page, which bounds the read, and the last row read.
    var reading: (until: ChangeSnapshot, xid: Int64, id: Int64)?

    /// The beginning of the read. Rows that are still to be read must have been kept since then, however many
    /// pages the read takes.
    package var takenAt: ContinuousClock.Instant { base.takenAt }

    /// The position up to which everything has been read; nil between the pages of a read.
    package var place: ChangePlace? { reading == nil ? base.place : nil }
}

/// A snapshot of the database, and this node's time of it.
struct ChangeSnapshot: Sendable {
    var place: ChangePlace
    /// A time that is not later than the snapshot.
    var takenAt: ContinuousClock.Instant

    init(_ place: ChangePlace, takenAt: ContinuousClock.Instant) {
        self.place = place
        self.takenAt = takenAt
    }

    /// Reads the form in which `pg_snapshot` is written: `xmin:xmax:xip,…`. Nil for text that is not a snapshot.
    init?(_ text: String, at: Timestamp, takenAt: ContinuousClock.Instant) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 3, let xmax = UInt64(parts[1]) else { return nil }
        let inProgress = parts[2].split(separator: ",")
        let xip = inProgress.compactMap { UInt64($0) }
        guard xip.count == inProgress.count else { return nil }
        self.init(ChangePlace(xmax: xmax, xip: xip, at: at), takenAt: takenAt)
    }

    var xmax: String { String(place.xmax) }
    var xip: [String] { place.xip.map { String($0) } }
}

package struct ChangeBatch: Sendable {
    package var changes: [RemoteChange] = []
    /// Whether some run was asked to stop.
    package var hasCancels = false
    /// Whether another node has changed something. With `ChangeInterest.cancels`, only its requests to stop a run
    /// are seen.
    package var hasRemote = false
    package var cursor: ChangeCursor
    /// Whether there is more to read at once.
    package var hasMore = false
    /// Whether the database has lost commits that had been read: it was restored, or a standby that lacked them has taken
    /// over.
    package var hasLostHistory = false
}

/// The user and the queue of a lane.
package struct LaneName: Sendable {
    package var userID: ExactText
    package var queue: String

    package init(userID: ExactText, queue: String) {
        self.userID = userID
        self.queue = queue
    }

    package init(_ spec: JobSpec) {
        self.init(userID: spec.userID, queue: spec.queue)
    }
}

extension Statement {
    static let openChanges = Statement(
        "open_changes", "SELECT pg_current_snapshot()::text AS snapshot, now() AS at")

    static let currentSchema = Statement(
        "current_schema", "SELECT coalesce(current_schema()::text, '') AS name")
}

/// Reads the rows that were not visible in one snapshot and are visible in another. Only new rows are read: a transaction
/// that stays open for long anywhere on the server holds back the xmin of snapshots, which is not used here.
///
/// The columns of the first row may be null. There is only the snapshot then.
struct ReadChanges: Command {
    /// The first snapshot: its xmax, and the transactions below it that were not visible.
    let xmax: String
    let xip: [String]
    /// The other snapshot in the same way; the largest number and none: all rows that are visible now.
    let untilXmax: String
    let untilXip: [String]
    /// The last row that was read.
    let afterXID: Int64
    let afterID: Int64
    let node: Int32
    /// Whether jobs are wanted, or only requests to stop a run.
    let includesJobs: Bool
    /// Whether rows of this node are wanted.
    let includesOwn: Bool
    /// A row that was read; 0: none.
    let anchorID: Int64
    let anchorAt: Timestamp?
    let countMax: Int64

    static let statement = ParameterizedStatement<Self>(
        "read_changes",
        """
        SELECT now.snapshot::text AS snapshot, now.at, c.id, c.xid::text::bigint AS xid, c.at AS changed_at,
            c.node <> \(\.node) AS is_remote,
            \(\.anchorID) = 0 OR EXISTS (
                SELECT FROM change a WHERE a.id = \(\.anchorID) AND a.at = \(\.anchorAt)) AS has_anchor,
            c.cancels, CASE WHEN \(\.includesJobs) THEN c.jobs END AS jobs,
            CASE WHEN \(\.includesJobs) THEN c.lanes END AS lanes,
            CASE WHEN \(\.includesJobs) THEN c.sequences END AS sequences
        FROM (SELECT pg_current_snapshot() AS snapshot, now() AS at) AS now LEFT JOIN LATERAL (
            SELECT * FROM (
                (SELECT * FROM change
                WHERE xid = ANY (ARRAY(SELECT x::xid8 FROM unnest(\(\.xip)) x)) AND \(isWanted)
                ORDER BY xid, id LIMIT \(\.countMax))
                UNION ALL
                (SELECT * FROM change WHERE xid >= \(\.xmax)::text::xid8 AND \(isWanted)
                ORDER BY xid, id LIMIT \(\.countMax))
            ) new
            ORDER BY xid, id LIMIT \(\.countMax)
        ) c ON true
        """)

    private static var isWanted: SQL<Self> {
        """
        xid < \(\.untilXmax)::text::xid8 AND xid <> ALL (ARRAY(SELECT x::xid8 FROM unnest(\(\.untilXip)) x))
            AND (xid, id) > (\(\.afterXID)::bigint::text::xid8, \(\.afterID))
            AND (cancels OR \(\.includesJobs)) AND (node <> \(\.node) OR \(\.includesOwn))
        """
    }
}

/// Removes old rows. Ids grow nearly with time, so it examines the rows with the lowest ids. Only one node does it at a
/// time, and each statement removes a bounded number of rows.
struct TrimChanges: Command {
    let keptMilliseconds: Int64
    let countMax: Int64

    static let statement = ParameterizedStatement<Self>(
        "trim_changes",
        """
        WITH permit AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock('change'::regclass::oid::bigint << 32) AS mine
        ), oldest AS MATERIALIZED (
            SELECT id, at FROM change WHERE (SELECT mine FROM permit) ORDER BY id LIMIT \(\.countMax)
        )
        DELETE FROM change USING oldest
        WHERE change.id = oldest.id AND oldest.at < now() - \(\.keptMilliseconds) * interval '1 millisecond'
        """)
}

/// Finds the users and queues of lanes.
struct FindLaneNames: Command {
    let ids: [Int64]

    static let statement = ParameterizedStatement<Self>(
        "find_lane_names",
        """
        SELECT l.id, l.user_id, q.name FROM lane l JOIN queue q ON q.id = l.queue
        WHERE l.id = ANY (\(\.ids))
        """)
}

struct Notify: Command {
    let channel: String
    let payload: String

    static let statement = ParameterizedStatement<Self>(
        "notify", "SELECT pg_notify(\(\.channel), \(\.payload))")
}

extension JobStore {
    private static let changesPerRead = 200
    static let changesTrimmedAtOnce = 10_000
    /// A number above the id of every transaction.
    private static let lastXID = String(UInt64.max)
    /// The time for which changes are kept. A node that still holds its lease reads them much earlier.
    package static let changesKept: Duration = .seconds(120)
    /// The age up to which a position is good to read on from. The rest of `changesKept` is for transactions that had begun
    /// long before they were visible, and for the read itself.
    package static let changesResumable: Duration = .seconds(90)

    /// The current position. A read that begins there misses no later commit.
    package func openChanges() async throws(StoreError) -> ChangeCursor {
        ChangeCursor(
            base: try await run("open_changes") { connection throws(PostgresError) in
                let now = ContinuousClock.now
                let result = try connection.execute(.openChanges)
                let row = try result.onlyRow
                return try Self.snapshot(
                    try row[result.column("snapshot")], at: try row[result.column("at")], takenAt: now)
            })
    }

    private static func snapshot(
        _ text: String, at: Timestamp, takenAt: ContinuousClock.Instant
    ) throws(PostgresError) -> ChangeSnapshot {
        guard let snapshot = ChangeSnapshot(text, at: at, takenAt: takenAt) else {
            throw PostgresError(.decoding, "\(text) is not a snapshot")
        }
        return snapshot
    }

    /// The cursor for reading on from a position that some node had. Nil: rows after it may have been removed, or it is not
    /// of this database.
    package func cursor(at place: ChangePlace) async throws(StoreError) -> ChangeCursor? {
        let now = try await openChanges().base
        let age = Duration.microseconds(now.place.at.microseconds - place.at.microseconds)
        guard age <= Self.changesResumable, place.xmax <= now.place.xmax else { return nil }
        return ChangeCursor(base: ChangeSnapshot(place, takenAt: now.takenAt))
    }

    /// The changes that were committed since a position.
    ///
    /// - Parameter isLong: for a caller that has much to read, which must not delay the change feed and other calls.
    package func changes(
        since cursor: ChangeCursor, _ interest: ChangeInterest, isLong: Bool = false
    ) async throws(StoreError) -> ChangeBatch {
        let node = nodeNumber
        return try await run("changes", isLong: isLong) { connection throws(PostgresError) in
            let now = ContinuousClock.now
            // Older rows may have been removed.
            let anchor = cursor.anchor.flatMap {
                $0.readAt.duration(to: now) < Self.changesKept / 2 ? $0 : nil
            }
            let result = try connection.execute(
                ReadChanges(
                    xmax: cursor.base.xmax, xip: cursor.base.xip,
                    untilXmax: cursor.reading?.until.xmax ?? Self.lastXID,
                    untilXip: cursor.reading?.until.xip ?? [], afterXID: cursor.reading?.xid ?? 0,
                    afterID: cursor.reading?.id ?? 0, node: node, includesJobs: interest != .cancels,
                    includesOwn: interest == .allNodes, anchorID: anchor?.id ?? 0, anchorAt: anchor?.at,
                    countMax: Int64(Self.changesPerRead)))
            let snapshot: Column<String> = try result.column("snapshot")
            let at: Column<Timestamp> = try result.column("at")
            let id: Column<Int64?> = try result.column("id")
            let xid: Column<Int64> = try result.column("xid")
            let changedAt: Column<Timestamp> = try result.column("changed_at")
            let hasAnchor: Column<Bool> = try result.column("has_anchor")
            let isRemote: Column<Bool> = try result.column("is_remote")
            let cancels: Column<Bool> = try result.column("cancels")
            let jobs: Column<[Int64]> = try result.column("jobs")
            let lanes: Column<[Int64]> = try result.column("lanes")
            let sequences: Column<[Int64]> = try result.column("sequences")
            var batch = ChangeBatch(cursor: cursor)
            var until = cursor.reading?.until
            var last: (xid: Int64, id: Int64) = (0, 0)
            for row in result {
                if until == nil {
                    let snapshot = try Self.snapshot(try row[snapshot], at: try row[at], takenAt: now)
                    batch.hasLostHistory =
                        try !row[hasAnchor] || snapshot.place.xmax < cursor.base.place.xmax
                    until = snapshot
                }
                guard let id = try row[id] else { continue }
                last = (try row[xid], id)
                batch.cursor.anchor = (id, try row[changedAt], now)
                if try row[isRemote] { batch.hasRemote = true }
                if try row[cancels] { batch.hasCancels = true }
                guard interest != .cancels else { continue }
                let jobs = try row[jobs]
                let lanes = try row[lanes]
                let sequences = try row[sequences]
                for index in jobs.indices {
                    batch.changes.append(
                        RemoteChange(number: jobs[index], lane: lanes[index], sequence: sequences[index]))
                }
            }
            batch.hasMore = result.rowCount == Self.changesPerRead
            if batch.hasMore, let until {
                batch.cursor.reading = (until, last.xid, last.id)
            } else {
                batch.cursor = ChangeCursor(base: until ?? cursor.base, anchor: batch.cursor.anchor)
            }
            return batch
        }
    }

    /// The users and queues of lanes.
    package func lanes(_ ids: [Int64]) async throws(StoreError) -> [Int64: LaneName] {
        try await run("lanes") { connection throws(PostgresError) in
            var lanes: [Int64: LaneName] = [:]
            let result = try connection.execute(FindLaneNames(ids: ids))
            let id: Column<Int64> = try result.column("id")
            let userID: Column<ExactText> = try result.column("user_id")
            let queue: Column<String> = try result.column("name")
            for row in result {
                lanes[try row[id]] = LaneName(userID: try row[userID], queue: try row[queue])
            }
            return lanes
        }
    }

    /// The channel on which the nodes of this schema notify each other of changes.
    package static func notifyChannel(_ database: Database) async throws(StoreError) -> String {
        do {
            return try await database.run("schema") { connection throws(PostgresError) in
                let result = try connection.execute(.currentSchema)
                let name: String = try result.onlyRow[result.column("name")]
                return "signalbox_" + name.prefix(50)
            }
        } catch {
            throw StoreError(error)
        }
    }

    /// Notifies the other nodes that there is something to read.
    package func notifyPeers() async throws(StoreError) {
        let node = nodeNumber
        _ = try await run("notify") { [notifyChannel] connection throws(PostgresError) in
            try connection.execute(Notify(channel: notifyChannel, payload: String(node))).rowCount
        }
    }

    /// Removes changes that no node needs any more, unless another node is doing that already.
    package func trimChanges() async throws(StoreError) {
        var removed: Int
        repeat {
            removed = try await run("trim_changes") { connection throws(PostgresError) in
                try connection.execute(
                    TrimChanges(
                        keptMilliseconds: Self.changesKept.milliseconds,
                        countMax: Int64(Self.changesTrimmedAtOnce))
                ).affectedRows
            }
        } while removed == Self.changesTrimmedAtOnce
    }
}
