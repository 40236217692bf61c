import JobModel
import Postgres
import Synchronization

extension Statement {
    /// The locks of a claim, without waiting for any. Which were got is left to the next statement of the same
    /// transaction, whose snapshot is the first that sees all that their last holders committed. So both can
    /// go in one round trip.
    static let lockLanesOfNewJobs = Statement(
        "lock_lanes_of_new_jobs",
        """
        SELECT set_config('signalbox.locked_lanes', coalesce(string_agg(lane::text, ','), ''), true)
        FROM unnest($1::bigint[]) AS t (lane)
        WHERE pg_try_advisory_xact_lock(('live'::regclass::oid::bigint << 32) | lane)
        """)

    /// As `insertJobs` and `insertFreshJobs`, but starts those jobs that nothing speaks against: due, of a kind of
    /// this node, in a lane that we hold, that has room, that is not paused, and in which nobody waits already.
    static let insertAndStartJobs = Statement(
        "insert_and_start_jobs", insertingAndStarting(mayConflict: true))
    static let insertAndStartFreshJobs = Statement(
        "insert_and_start_fresh_jobs", insertingAndStarting(mayConflict: false))

    private static func insertingAndStarting(mayConflict: Bool) -> String {
        """
        WITH \(newJobs(mayConflict: mayConflict)), \(auditing(newJobsMayConflict: mayConflict)),
        room AS MATERIALIZED (
            SELECT lane.id AS lane, coalesce(lane.user_limit, queue.user_limit, $26) - (
                SELECT count(*) FROM live r WHERE r.state = 'running' AND r.lane = lane.id) AS room
            FROM unnest(string_to_array(current_setting('signalbox.locked_lanes'), ',')::bigint[]) AS l (id)
            JOIN lane ON lane.id = l.id JOIN queue ON queue.id = lane.queue
            WHERE NOT queue.paused
                AND NOT EXISTS (SELECT FROM live w WHERE w.state = 'ready' AND w.lane = lane.id)
                AND EXISTS (SELECT FROM node
                    WHERE node.id = $1 AND ended_at IS NULL AND lease_until > clock_timestamp())
        ), turn AS (
            SELECT number, lane, row_number() OVER (PARTITION BY lane ORDER BY priority DESC, due_at, number)
                AS place
            FROM new WHERE due_at <= now() AND kind = ANY ($25::int[])
        ), starts AS MATERIALIZED (
            SELECT number FROM turn JOIN room USING (lane) WHERE place <= room ORDER BY place, number LIMIT $27
        ), entry AS (
            INSERT INTO live (
                number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts, token, node,
                started_at)
            SELECT number, lane, kind, -priority,
                (CASE WHEN starts THEN 'running' WHEN due_at <= now() THEN 'ready' ELSE 'scheduled' END)::live_state,
                due_at, CASE WHEN starts THEN 2 ELSE 1 END, CASE WHEN starts THEN 1 ELSE 0 END, max_attempts,
                CASE WHEN starts THEN nextval('run_token') END, CASE WHEN starts THEN $1 END,
                CASE WHEN starts THEN clock_timestamp() END
            FROM (SELECT new.*, starts.number IS NOT NULL AS starts FROM new LEFT JOIN starts USING (number)) n
            RETURNING number, lane, sequence, token, started_at
        ), told AS (
            -- Event 1 of all, and event 2 of those that start.
            INSERT INTO change (node, jobs, lanes, sequences)
            SELECT $1, array_agg(number) || array_agg(number) FILTER (WHERE sequence = 2),
                array_agg(lane) || array_agg(lane) FILTER (WHERE sequence = 2),
                array_agg(1::bigint) || array_agg(2::bigint) FILTER (WHERE sequence = 2)
            FROM entry HAVING count(*) > 0
        )
        SELECT new.id, new.number, new.created_at, new.due_at, entry.token, entry.started_at
        FROM new JOIN entry USING (number)
        """
    }
}

/// Lanes in which nothing could start just now, because they are full, or paused, or somebody waits there. To ask again
/// with each commit would cost a user with a long queue more than it gives.
final class ClosedLanes: Sendable {
    private static let time: Duration = .milliseconds(20)
    /// The memory is emptied when it is full.
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

/// What a commit of new jobs asks of a starter.
struct StartOffer {
    /// Each lane of a start holds a lock of the database's shared table until the commit.
    private static let lanesMax = 256

    private let starter: any RunStarter
    private let closed: ClosedLanes
    private let grant: StartGrant
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

    var lock: Query { Query(.lockLanesOfNewJobs, Parameters { $0.append(Array(lanes)) }) }

    func append(to parameters: inout Parameters) {
        parameters.append(grant.kinds)
        parameters.append(Int32(grant.defaultUserLimit))
        parameters.append(Int64(grant.slots))
    }

    /// What is committed.
    func start(_ runs: [ClaimedRun]) {
        closed.add(lanes.subtracting(runs.map(\.key.lane)), now: .now)
        if !runs.isEmpty { starter.start(runs, under: grant) }
    }

    func end() { starter.endStart(grant) }
}
