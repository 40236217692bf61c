package import JobModel
import Postgres
import Support

/// Finds the next lanes in which jobs are ready, with their kinds. Each is found with one index probe, so the
/// cost is the same whether a user has one job waiting or a million. It stops after `lanesMax` open lanes: lanes
/// that are not paused, have a limit above 0, and have jobs of a kind that this node handles. It takes those
/// locks of the open lanes that are free. A lane's room is counted by one claimer at a time, only after it holds
/// the lock (`ClaimRuns` has a snapshot of its own), which makes the limits exact across nodes. The locks end
/// with the transaction, so they cannot leak.
struct LockLanes: Command, StatementOfNode {
    /// Lanes up to this one were served before.
    let after: Int64
    let lanesMax: Int32
    let defaultUserLimit: Int32
    let node: NodeID
    let kinds: [Int32]
    let scannedMax: Int32

    static let statement = ParameterizedStatement<Self>(
        "lock_lanes",
        """
        WITH RECURSIVE scan (lane, kind, user_id, queue, user_limit, is_open, scanned, opened) AS (
            SELECT n.*, 1, n.is_open::int FROM (\(next("lane > \(\.after)"))) n
            UNION ALL
            SELECT n.*, scan.scanned + 1, scan.opened + n.is_open::int
            FROM scan CROSS JOIN LATERAL (\(next("(lane, kind) > (scan.lane, scan.kind)"))) n
            WHERE scan.opened < \(\.lanesMax) AND scan.scanned < \(\.scannedMax)
        )
        SELECT lane, kind, is_open,
            -- A node that was given up, and does not know it yet, gets nothing.
            CASE WHEN is_open AND EXISTS (SELECT FROM node WHERE \(.isAlive))
                THEN pg_try_advisory_xact_lock(('live'::regclass::oid::bigint << 32) | lane) ELSE false END
                AS is_locked,
            user_limit, user_id, queue
        FROM scan ORDER BY lane, kind
        """)

    /// The first lane and kind with a ready job, among those that fulfil the condition.
    private static func next(_ condition: SQL<Self>) -> SQL<Self> {
        """
        SELECT f.lane, f.kind, lane.user_id, queue.name AS queue, l.user_limit,
            l.user_limit > 0 AND NOT queue.paused AND f.kind = ANY (\(\.kinds)) AS is_open
        FROM (SELECT live.lane, live.kind FROM live
            WHERE live.state = 'ready' AND \(condition) ORDER BY live.lane, live.kind LIMIT 1) f
        JOIN lane ON lane.id = f.lane JOIN queue ON queue.id = lane.queue
        CROSS JOIN LATERAL (
            SELECT coalesce(lane.user_limit, queue.user_limit, \(\.defaultUserLimit)) AS user_limit) l
        """
    }

    struct Columns {
        let lane: Column<Int64>
        let kind: Column<Int32>
        let isOpen: Column<Bool>
        let isLocked: Column<Bool>
        let userLimit: Column<Int32>
        let userID: Column<ExactText>
        let queue: Column<String>

        init(_ result: QueryResult) throws(PostgresError) {
            lane = try result.column("lane")
            kind = try result.column("kind")
            isOpen = try result.column("is_open")
            isLocked = try result.column("is_locked")
            userLimit = try result.column("user_limit")
            userID = try result.column("user_id")
            queue = try result.column("queue")
        }
    }
}

/// Starts jobs of locked lanes: first one job of each lane, then a second one, and so on, up to each lane's room
/// and the free slots. Within a lane the order is priority, due time, number. It uses `clock_timestamp`, because
/// the transaction began before the room was counted. A job whose run is its first (event 2) has no checkpoint
/// and no log; a run that was given back may have left both, though its attempt does not count. A row that
/// another transaction moves or changes before the update locks it is left to the next claim.
///
/// The planner must not guess how many jobs wait in a lane: for a user with a million jobs it would decide to
/// read all of `job`. So the statement uses arrays, for which the planner has one fixed guess, and `SQL.lookUp`.
/// Here and in other statements, the conditions on the state of a row that is found by its number are written so
/// that the planner cannot use a partial index. A plan that was made while few jobs ran would otherwise read the
/// index of all running jobs.
struct ClaimRuns: Command {
    let node: Int32
    /// The kinds of all lanes in one list, in which the kinds of one lane follow each other.
    let kinds: [Int32]
    let lanes: [Int64]
    let userLimits: [Int32]
    /// The first and the last index of each lane's kinds in `kinds`, from 1.
    let firstKinds: [Int32]
    let lastKinds: [Int32]
    let slots: Int32
    /// The most jobs that one lane gets.
    let share: Int32

    static let statement = ParameterizedStatement<Self>(
        "claim_runs",
        """
        WITH room AS MATERIALIZED (
            SELECT l.lane, (\(\.kinds))[l.first_kind:l.last_kind] AS kinds, l.ordinal,
                greatest(0, least(\(\.share), l.user_limit - (
                    SELECT count(*) FROM live r WHERE r.state = 'running' AND r.lane = l.lane))) AS room
            FROM unnest(\(\.lanes), \(\.userLimits), \(\.firstKinds), \(\.lastKinds))
                WITH ORDINALITY AS l (lane, user_limit, first_kind, last_kind, ordinal)
        ), pick AS (
            SELECT e.tuple_id FROM room CROSS JOIN LATERAL unnest(ARRAY(
                SELECT k.tuple_id FROM unnest(room.kinds) AS wanted (kind) CROSS JOIN LATERAL (
                    SELECT w.ctid AS tuple_id, w.rank, w.due_at, w.number FROM live w
                    WHERE w.state = 'ready' AND w.lane = room.lane AND w.kind = wanted.kind
                    ORDER BY w.rank, w.due_at, w.number LIMIT least(room.room, \(\.slots))) k
                ORDER BY k.rank, k.due_at, k.number LIMIT least(room.room, \(\.slots))
            )) WITH ORDINALITY AS e (tuple_id, ordinal)
            WHERE room.room > 0 ORDER BY e.ordinal, room.ordinal LIMIT \(\.slots)
        ), run AS (
            UPDATE live SET state = 'running', token = nextval('run_token'), node = \(\.node),
                started_at = clock_timestamp(), attempt = live.attempt + 1, sequence = live.sequence + 1
            FROM pick WHERE live.ctid = pick.tuple_id AND live.token IS NULL AND live.state <> 'scheduled'
            RETURNING live.number, live.lane, live.token, live.attempt, live.max_attempts, live.sequence,
                live.started_at
        ), \(.announcing("run", node: \.node))
        SELECT \(.runColumns(of: "run")), job.payload,
            CASE WHEN run.sequence > 2 THEN (SELECT data FROM checkpoint c WHERE c.number = run.number) END
                AS checkpoint,
            CASE WHEN run.sequence > 2 THEN coalesce(
                (SELECT max(line) FROM log_line l WHERE l.number = run.number), 0) ELSE 0 END AS last_log_line
        FROM run JOIN job ON \(.lookUp("job.number", "run.number")) JOIN kind ON kind.id = job.kind
        """)
}

/// A lane that a claim has locked, and the kinds that wait there.
private struct OpenLane {
    var lane: Int64
    /// The index of its first kind in the list of kinds, from 1.
    var firstKind: Int
    var kinds = 1
    var userLimit: Int32
    var userID: ExactText
    var queue: String
}

extension JobStore {
    /// The most lanes of one claim. A lane counts once for each kind that waits there. Each locked lane takes an
    /// entry of the database's shared lock table until the commit.
    private static let lanesPerClaimMax = 40
    /// The most lanes that one claim examines, including those that are not open to it.
    private static let lanesScannedMax = 2000

    /// Starts up to `slots` waiting jobs of the given kinds on this node.
    ///
    /// - Parameter nextMayBegin: called at most once, on a thread of the store, when the lanes of this claim are locked,
    ///   there are others behind them, and each can have its share of the slots.
    package func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void = { _ in }
    ) async throws(StoreError) -> ClaimResult {
        let lanesMax = min(max(2 * request.slots, 16), Self.lanesPerClaimMax)
        let node = nodeID
        // The claim is not retried after a deadlock, because the next claim may have begun with the outlook of
        // this one.
        let result = try await write("claim", retries: false) { connection throws(PostgresError) in
            try connection.withTransaction { transaction throws(PostgresError) in
                try Self.claim(request, lanesMax: lanesMax, node: node, in: &transaction, nextMayBegin)
            }
        }
        publish(result.runs.map { .event($0.startedEvent(node: nodeName), $0.key) })
        return result
    }

    private static func claim(
        _ request: ClaimRequest, lanesMax: Int, node: NodeID, in transaction: inout Transaction,
        _ nextMayBegin: (ClaimOutlook) -> Void
    ) throws(PostgresError) -> ClaimResult {
        let scanned = try transaction.execute([
            Query(
                LockLanes(
                    after: request.cursor.lane, lanesMax: Int32(lanesMax),
                    defaultUserLimit: Int32(request.defaultUserLimit), node: node, kinds: request.kinds,
                    scannedMax: Int32(Self.lanesScannedMax)))
        ])[0]
        let columns = try LockLanes.Columns(scanned)
        var lanes: [OpenLane] = []
        var kinds: [Int32] = []
        var last = request.cursor.lane
        var openCount = 0
        var contendedCount = 0
        for row in scanned {
            last = try row[columns.lane]
            guard try row[columns.isOpen] else { continue }
            openCount += 1
            guard try row[columns.isLocked] else {
                contendedCount += 1
                continue
            }
            kinds.append(try row[columns.kind])
            if lanes.last?.lane == last {
                lanes[lanes.count - 1].kinds += 1
            } else {
                lanes.append(
                    OpenLane(
                        lane: last, firstKind: kinds.count, userLimit: try row[columns.userLimit],
                        userID: try row[columns.userID], queue: try row[columns.queue]))
            }
        }
        // The end of the lanes was reached, so the next scan begins with the first lane again.
        let isWhole = openCount < lanesMax && scanned.rowCount < Self.lanesScannedMax
        if !isWhole {
            if lanes.last?.lane == last {
                // More kinds may wait in it, and one of their jobs may go first. The lane is not left to the next claim,
                // which may begin while this one still holds its lock.
                lanes[lanes.count - 1].firstKind = kinds.count + 1
                lanes[lanes.count - 1].kinds = request.kinds.count
                kinds += request.kinds
            } else if last - 1 > request.cursor.lane {
                // The lane is not locked by this claim: the next scan begins with it.
                last -= 1
            }
        }
        var result = ClaimResult()
        result.cursor.lane = isWhole ? 0 : last
        result.hasMore = !isWhole || request.cursor.lane > 0
        result.isContended = contendedCount > 0
        result.foundLanes = openCount > 0
        guard !lanes.isEmpty else { return result }
        // If more lanes wait, no lane takes more than its share of the slots, and is served again after the others.
        let share = isWhole ? request.slots : max(1, request.slots / lanes.count)
        let runsMax = lanes.reduce(0) { $0 + min(Int($1.userLimit), share) }
        if !isWhole, runsMax <= request.slots {
            nextMayBegin(ClaimOutlook(cursor: result.cursor, runsMax: runsMax))
        }
        let claimed = try transaction.commit(with: [
            Query(
                ClaimRuns(
                    node: node.number, kinds: kinds, lanes: lanes.map(\.lane),
                    userLimits: lanes.map(\.userLimit),
                    firstKinds: lanes.map { Int32($0.firstKind) },
                    lastKinds: lanes.map { Int32($0.firstKind + $0.kinds - 1) }, slots: Int32(request.slots),
                    share: Int32(share)))
        ])[0]
        let owners = Dictionary(uniqueKeysWithValues: lanes.map { ($0.lane, $0) })
        result.runs.reserveCapacity(claimed.rowCount)
        let reader = try RunReader(claimed, isClaim: true)
        for row in claimed {
            let lane = try row[reader.lane]
            guard let owner = owners[lane] else {
                throw PostgresError(.decoding, "a job was claimed in lane \(lane), which was not locked")
            }
            result.runs.append(try reader.run(row, userID: owner.userID, queue: owner.queue))
        }
        if result.runs.count == request.slots {
            // The slots ran out, so the next claim continues behind the last lane that was served.
            result.hasMore = true
            var served: [Int64: Int] = [:]
            for run in result.runs { served[run.key.lane, default: 0] += 1 }
            let most = served.values.max()
            result.cursor.lane = lanes.last { served[$0.lane] == most }?.lane ?? last
        }
        return result
    }
}
