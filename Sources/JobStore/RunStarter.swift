import JobModel
import Postgres
import Synchronization

/// Takes the locks of lanes as a claim does, without waiting for any. The next statement of the same transaction
/// reads which locks were taken. Its snapshot is the first one that includes all commits of their last holders,
/// so both statements can be sent in one round trip.
struct LockLanesOfNewJobs: Command {
    let lanes: [Int64]

    static let statement = ParameterizedStatement<Self>(
        "lock_lanes_of_new_jobs",
        """
        SELECT set_config('signalbox.locked_lanes', coalesce(string_agg(lane::text, ','), ''), true)
        FROM unnest(\(\.lanes)) AS t (lane)
        WHERE pg_try_advisory_xact_lock(('live'::regclass::oid::bigint << 32) | lane)
        """)
}

// The statements that add jobs and start those that are eligible: due, of a kind that this node handles, in a
// lane that is locked by this transaction, is not paused, has room, and in which no other job waits.
extension InsertJobs {
    static let start = ParameterizedStatement<Self>("insert_and_start_jobs", starting(mayConflict: true))
    static let startFresh = ParameterizedStatement<Self>(
        "insert_and_start_fresh_jobs", starting(mayConflict: false))

    fileprivate var kinds: [Int32] { offer?.grant.kinds ?? [] }
    fileprivate var defaultUserLimit: Int32 { Int32(offer?.grant.defaultUserLimit ?? 0) }
    fileprivate var slots: Int64 { Int64(offer?.grant.slots ?? 0) }

    private static func starting(mayConflict: Bool) -> SQL<Self> {
        """
        WITH \(.newJobs(mayConflict: mayConflict)), \(.auditingNewJobs(mayConflict: mayConflict)),
        room AS MATERIALIZED (
            SELECT lane.id AS lane, coalesce(lane.user_limit, queue.user_limit, \(\.defaultUserLimit)) - (
                SELECT count(*) FROM live r WHERE r.state = 'running' AND r.lane = lane.id) AS room
            FROM unnest(string_to_array(current_setting('signalbox.locked_lanes'), ',')::bigint[]) AS l (id)
            JOIN lane ON lane.id = l.id JOIN queue ON queue.id = lane.queue
            WHERE NOT queue.paused
                AND NOT EXISTS (SELECT FROM live w WHERE w.state = 'ready' AND w.lane = lane.id)
                AND EXISTS (SELECT FROM node WHERE \(.isAlive))
        ), ranked AS (
            SELECT number, lane, row_number() OVER (PARTITION BY lane ORDER BY priority DESC, due_at, number)
                AS ordinal
            FROM new WHERE due_at <= now() AND kind = ANY (\(\.kinds))
        ), starts AS MATERIALIZED (
            SELECT number FROM ranked JOIN room USING (lane) WHERE ordinal <= room
            ORDER BY ordinal, number LIMIT \(\.slots)
        ), entry AS (
            INSERT INTO live (
                number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts, token, node,
                started_at)
            SELECT number, lane, kind, -priority,
                (CASE WHEN starts THEN 'running' WHEN due_at <= now() THEN 'ready' ELSE 'scheduled' END)::live_state,
                due_at, CASE WHEN starts THEN 2 ELSE 1 END, CASE WHEN starts THEN 1 ELSE 0 END, max_attempts,
                CASE WHEN starts THEN nextval('run_token') END, CASE WHEN starts THEN \(\.node.number) END,
                CASE WHEN starts THEN clock_timestamp() END
            FROM (SELECT new.*, starts.number IS NOT NULL AS starts FROM new LEFT JOIN starts USING (number)) n
            RETURNING number, lane, sequence, token, started_at
        ), \(announcingNewAndStarted)
        SELECT new.id, new.number, new.created_at, new.due_at, entry.token, entry.started_at
        FROM new JOIN entry USING (number)
        """
    }

    /// Announces event 1 of all jobs, and event 2 of those that start.
    private static let announcingNewAndStarted = SQL<Self>.announcing(
        """
        SELECT \(\.node.number), array_agg(number) || array_agg(number) FILTER (WHERE sequence = 2),
            array_agg(lane) || array_agg(lane) FILTER (WHERE sequence = 2),
            array_agg(1::bigint) || array_agg(2::bigint) FILTER (WHERE sequence = 2), false
        FROM entry HAVING count(*) > 0
        """)
}

/// Remembers lanes in which no job could start just now, because they are full or paused, or because jobs wait
/// there. Trying again with each commit would cost a user with a long queue more than it gains.
final class ClosedLanes: Sendable {
    private static let time: Duration = .milliseconds(20)
    /// The most lanes that are remembered. The memory is emptied when it is full.
    private static let countMax = 10_000

    private let state = Mutex<[Int64: ContinuousClock.Instant]>([:])

    func add(_ lanes: some Sequence<Int64>, now: ContinuousClock.Instant) {
        state.withLock { state in
            if state.count > Self.countMax { state = [:] }
            for lane in lanes { state[lane] = now + Self.time }
        }
    }

    func open(of lanes: Set<Int64>, now: ContinuousClock.Instant) -> Set<Int64> {
        state.withLock { state in
            state.isEmpty ? lanes : lanes.filter { lane in state[lane].map { $0 <= now } ?? true }
        }
    }
}

/// The slots and the lanes in which jobs of one commit may start at once.
struct StartOffer {
    /// The most lanes of a start. Each holds a lock of the database's shared table until the commit.
    private static let lanesMax = 256

    private let starter: any RunStarter
    private let closed: ClosedLanes
    fileprivate let grant: StartGrant
    private let lanes: Set<Int64>

    /// Nil when none of the jobs can start now.
    init?(_ jobs: [NewJob], _ ids: [LaneIDs], _ starter: (any RunStarter)?, _ closed: ClosedLanes) {
        guard let starter else { return nil }
        let open = closed.open(of: Set(ids.map(\.lane)), now: .now)
        guard !open.isEmpty else { return nil }
        let isDue = jobs.map { if case .after(let delay) = $0.spec.due { delay <= .zero } else { false } }
        let count = isDue.count { $0 }
        guard count > 0, let grant = starter.beginStart(upTo: count) else { return nil }
        var lanes: Set<Int64> = []
        for (ids, isDue) in zip(ids, isDue)
        where isDue && open.contains(ids.lane) && grant.kinds.contains(ids.kind) {
            lanes.insert(ids.lane)
            if lanes.count == min(Self.lanesMax, grant.slots) { break }
        }
        guard !lanes.isEmpty else {
            starter.endStart(grant)
            return nil
        }
        self.starter = starter
        self.grant = grant
        self.closed = closed
        self.lanes = lanes
    }

    var lock: Query { Query(LockLanesOfNewJobs(lanes: Array(lanes))) }

    /// Starts the runs, once they are committed.
    func start(_ runs: [ClaimedRun]) {
        closed.add(lanes.subtracting(runs.map(\.key.lane)), now: .now)
        if !runs.isEmpty { starter.start(runs, under: grant) }
    }

    func end() { starter.endStart(grant) }
}
