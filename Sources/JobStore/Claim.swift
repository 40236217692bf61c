package import JobModel
import Postgres
import Support

extension Statement {
    /// The next lanes with something ready, and of which kinds, each found with one index probe, so that it costs the
    /// same whether a user has one job waiting or a million; up to $2 that are open: not paused, with a limit,
    /// and of a kind that this node handles. Of those, the lanes whose lock could be taken: a lane's room is
    /// counted by one claimer at a time, and only after it holds the lock (the second statement has a snapshot of
    /// its own), which is what makes the limits exact across nodes. The lock ends with the transaction: nothing can
    /// leak.
    static let lockLanes = Statement(
        "lock_lanes",
        """
        WITH RECURSIVE scan (lane, kind, user_id, queue, user_limit, is_open, scanned, opened) AS (
            SELECT n.*, 1, n.is_open::int FROM (\(next("lane > $1"))) n
            UNION ALL
            SELECT n.*, scan.scanned + 1, scan.opened + n.is_open::int
            FROM scan CROSS JOIN LATERAL (\(next("(lane, kind) > (scan.lane, scan.kind)"))) n
            WHERE scan.opened < $2 AND scan.scanned < $6
        )
        SELECT lane, kind, is_open,
            -- A node that was given up, and does not know it yet, gets nothing.
            CASE WHEN is_open AND EXISTS (SELECT FROM node
                    WHERE node.id = $4 AND ended_at IS NULL AND lease_until > clock_timestamp())
                THEN pg_try_advisory_xact_lock(('live'::regclass::oid::bigint << 32) | lane) ELSE false END,
            user_limit, user_id, queue
        FROM scan ORDER BY lane, kind
        """)

    /// The first lane and kind after a place with something ready.
    private static func next(_ place: String) -> String {
        """
        SELECT f.lane, f.kind, lane.user_id, queue.name AS queue, l.user_limit,
            l.user_limit > 0 AND NOT queue.paused AND f.kind = ANY ($5::int[]) AS is_open
        FROM (SELECT live.lane, live.kind FROM live
            WHERE live.state = 'ready' AND \(place) ORDER BY live.lane, live.kind LIMIT 1) f
        JOIN lane ON lane.id = f.lane JOIN queue ON queue.id = lane.queue
        CROSS JOIN LATERAL (SELECT coalesce(lane.user_limit, queue.user_limit, $3) AS user_limit) l
        """
    }

    /// First one job of every lane, in turn, then a second one, up to each lane's room and the free slots.
    /// Within a lane: priority, then due time, then number. `clock_timestamp`, because the transaction
    /// began before the room was counted. A job whose run is its first (event 2) has left nothing behind; a run
    /// that was given back has, though its attempt does not count. A row that somebody moves or changes between the
    /// look at it and the update is left to the next claim.
    ///
    /// The planner must not guess how much waits in a lane: from a user with a million jobs it would conclude that all of
    /// `job` is to be read. So it sees arrays, for which it has one guess, and `lookUp`. And where a row is found by its
    /// number, here and elsewhere, its state is checked in words from which no partial index follows: a plan that was made
    /// while few jobs ran would read the index of all that run instead.
    static let claimRuns = Statement(
        "claim_runs",
        """
        WITH room AS MATERIALIZED (
            SELECT l.lane, ($2::int[])[l.first_kind:l.last_kind] AS kinds, l.turn, greatest(0, least($8, l.user_limit - (
                SELECT count(*) FROM live r WHERE r.state = 'running' AND r.lane = l.lane))) AS room
            FROM unnest($3::bigint[], $4::int[], $6::int[], $7::int[])
                WITH ORDINALITY AS l (lane, user_limit, first_kind, last_kind, turn)
        ), pick AS (
            SELECT e.place_in_table FROM room CROSS JOIN LATERAL unnest(ARRAY(
                SELECT k.place_in_table FROM unnest(room.kinds) AS wanted (kind) CROSS JOIN LATERAL (
                    SELECT w.ctid AS place_in_table, w.rank, w.due_at, w.number FROM live w
                    WHERE w.state = 'ready' AND w.lane = room.lane AND w.kind = wanted.kind
                    ORDER BY w.rank, w.due_at, w.number LIMIT least(room.room, $5)) k
                ORDER BY k.rank, k.due_at, k.number LIMIT least(room.room, $5)
            )) WITH ORDINALITY AS e (place_in_table, place)
            WHERE room.room > 0 ORDER BY e.place, room.turn LIMIT $5
        ), run AS (
            UPDATE live SET state = 'running', token = nextval('run_token'), node = $1,
                started_at = clock_timestamp(), attempt = live.attempt + 1, sequence = live.sequence + 1
            FROM pick WHERE live.ctid = pick.place_in_table AND live.token IS NULL AND live.state <> 'scheduled'
            RETURNING live.number, live.lane, live.token, live.attempt, live.max_attempts, live.sequence,
                live.started_at
        ), told AS (
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number), array_agg(lane), array_agg(sequence) FROM run HAVING count(*) > 0
        )
        SELECT run.number, run.lane, job.id, run.token, run.attempt, run.max_attempts, run.sequence,
            run.started_at, kind.name, job.payload, job.content_type, job.max_attempts, job.timeout_ms,
            job.soft_timeout_ms, job.retry_initial_ms, job.retry_factor, job.retry_max_ms, job.retry_jitter,
            CASE WHEN run.sequence > 2 THEN (SELECT data FROM checkpoint c WHERE c.number = run.number) END,
            CASE WHEN run.sequence > 2 THEN coalesce(
                (SELECT max(line) FROM log_line l WHERE l.number = run.number), 0) ELSE 0 END
        FROM run JOIN job ON \(lookUp("job.number", "run.number")) JOIN kind ON kind.id = job.kind
        """)
}

/// A lane that a claim has locked, and which of the claim's kinds wait there.
private struct OpenLane {
    var lane: Int64
    /// The first one's place in the list of kinds, from 1, and how many there are.
    var firstKind: Int
    var kinds = 1
    var userLimit: Int32
    var userID: ExactText
    var queue: String
}

extension JobStore {
    /// Lanes of one claim, each counted once for each kind that waits there. Each holds a lock of the database's shared
    /// table until the commit.
    private static let lanesPerClaimMax = 40
    /// Lanes that one claim looks at, those included that are not open to it.
    private static let lanesScannedMax = 2000

    /// Starts up to `slots` waiting jobs of the kinds given, for this node.
    ///
    /// - Parameter nextMayBegin: called at most once, on a thread of the store, when the lanes of this claim are locked,
    ///   there are others behind them, and each can have its share of the slots.
    package func claim(
        _ request: ClaimRequest, nextMayBegin: @escaping @Sendable (ClaimOutlook) -> Void = { _ in }
    ) async throws(StoreError) -> ClaimResult {
        let lanesMax = min(max(2 * request.slots, 16), Self.lanesPerClaimMax)
        let node = nodeNumber
        // Not again when it lost a deadlock: the next claim may have begun on what was told of this one.
        let result = try await write("claim", retries: false) { connection throws(PostgresError) in
            try connection.withTransaction { transaction throws(PostgresError) in
                try Self.claim(request, lanesMax: lanesMax, node: node, in: &transaction, nextMayBegin)
            }
        }
        tell(result.runs.map { .event($0.startedEvent(node: nodeName), $0.key) })
        return result
    }

    private static func claim(
        _ request: ClaimRequest, lanesMax: Int, node: Int32, in transaction: inout Transaction,
        _ nextMayBegin: (ClaimOutlook) -> Void
    ) throws(PostgresError) -> ClaimResult {
        let scanned = try transaction.execute(
            .lockLanes,
            Parameters {
                $0.append(request.cursor.lane)
                $0.append(Int32(lanesMax))
                $0.append(Int32(request.defaultUserLimit))
                $0.append(node)
                $0.append(request.kinds)
                $0.append(Int32(Self.lanesScannedMax))
            })
        var lanes: [OpenLane] = []
        var kinds: [Int32] = []
        var last = request.cursor.lane
        var openCount = 0
        var contendedCount = 0
        for row in scanned {
            last = try row.int64(0)
            guard try row.bool(2) else { continue }
            openCount += 1
            guard try row.bool(3) else {
                contendedCount += 1
                continue
            }
            kinds.append(try row.int32(1))
            if lanes.last?.lane == last {
                lanes[lanes.count - 1].kinds += 1
            } else {
                lanes.append(
                    OpenLane(
                        lane: last, firstKind: kinds.count, userLimit: try row.int32(4),
                        userID: ExactText(try row.string(5)), queue: try row.string(6)))
            }
        }
        // The end of the scan: the next one begins with the first lane again.
        let isWhole = openCount < lanesMax && scanned.rowCount < Self.lanesScannedMax
        if !isWhole {
            if lanes.last?.lane == last {
                // There may be more kinds in it, of which one goes first. It is not left to the next claim, which may
                // begin while we still hold its lock.
                lanes[lanes.count - 1].firstKind = kinds.count + 1
                lanes[lanes.count - 1].kinds = request.kinds.count
                kinds += request.kinds
            } else if last - 1 > request.cursor.lane {
                // Not ours: the next scan begins with it.
                last -= 1
            }
        }
        var result = ClaimResult()
        result.cursor.lane = isWhole ? 0 : last
        result.hasMore = !isWhole || request.cursor.lane > 0
        result.isContended = contendedCount > 0
        result.foundLanes = openCount > 0
        guard !lanes.isEmpty else { return result }
        // Where there are others behind them, no lane takes more than its share of the slots: it has its next turn when
        // those have had theirs.
        let share = isWhole ? request.slots : max(1, request.slots / lanes.count)
        let runsMax = lanes.reduce(0) { $0 + min(Int($1.userLimit), share) }
        if !isWhole, runsMax <= request.slots {
            nextMayBegin(ClaimOutlook(cursor: result.cursor, runsMax: runsMax))
        }
        let claimed = try transaction.commit(with: [
            Query(
                .claimRuns,
                Parameters {
                    $0.append(node)
                    $0.append(kinds)
                    $0.append(lanes.map(\.lane))
                    $0.append(lanes.map(\.userLimit))
                    $0.append(Int32(request.slots))
                    $0.append(lanes.map { Int32($0.firstKind) })
                    $0.append(lanes.map { Int32($0.firstKind + $0.kinds - 1) })
                    $0.append(Int32(share))
                })
        ])
        let owners = Dictionary(uniqueKeysWithValues: lanes.map { ($0.lane, $0) })
        result.runs.reserveCapacity(claimed[0].rowCount)
        for row in claimed[0] {
            let lane = try row.int64(1)
            guard let owner = owners[lane] else {
                throw PostgresError(.decoding, "a job was claimed in lane \(lane), which was not locked")
            }
            result.runs.append(try ClaimedRun(row, userID: owner.userID, queue: owner.queue))
        }
        if result.runs.count == request.slots {
            // The slots ran out: the next claim goes on behind the last lane that had its turn.
            result.hasMore = true
            var served: [Int64: Int] = [:]
            for run in result.runs { served[run.key.lane, default: 0] += 1 }
            let most = served.values.max()
            result.cursor.lane = lanes.last { served[$0.lane] == most }?.lane ?? last
        }
        return result
    }
}

extension ClaimedRun {
    /// Reads the columns of `claimRuns`.
    convenience init(_ row: Row, userID: ExactText, queue: String) throws(PostgresError) {
        let spec = JobSpec(
            kind: try row.string(8), userID: userID, queue: queue, payload: try row.bytes(9),
            contentType: ExactText(try row.string(10)), maxAttempts: Int(try row.int32(11)),
            retryPolicy: RetryPolicy(
                initialDelay: .milliseconds(try row.int64(14)), factor: try row.double(15),
                maxDelay: .milliseconds(try row.int64(16)), jitter: try row.double(17)),
            timeout: try row.optionalInt64(12).map { .milliseconds($0) },
            softTimeout: try row.optionalInt64(13).map { .milliseconds($0) })
        self.init(
            key: JobKey(number: try row.int64(0), lane: try row.int64(1), id: JobID(try row.uuid(2))),
            spec: spec, token: try row.int64(3), attempt: Int(try row.int32(4)),
            maxAttempts: Int(try row.int32(5)), sequence: try row.int64(6),
            startedAt: Timestamp(microseconds: try row.timestamp(7)),
            checkpoint: try row.optionalBytes(18), lastLogLine: try row.int64(19))
    }
}
