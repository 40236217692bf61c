// exact in this file: kinds and queues are names that were checked to be ASCII, which Swift compares by its bytes.

import JobModel
import Postgres
import Support
import Synchronization

/// The numbers of a job's lane and kind.
struct LaneIDs: Sendable {
    var lane: Int64
    var kind: Int32
}

/// Remembers the numbers of kinds and lanes. They never change, but a database that comes back without its last commits may
/// give a number to another name, so a statement that uses a number confirms its name too.
final class Catalog: Sendable {
    /// The most lanes that are remembered. The memory is emptied when it is full.
    private let lanesMax: Int
    /// The most kinds that are remembered. Names that callers invent are already refused, because no live node
    /// handles them.
    private let kindsMax: Int

    struct LaneName: Hashable {
        var queue: String
        var userID: ExactText

        init(queue: String, userID: ExactText) {
            self.queue = queue
            self.userID = userID
        }

        init(_ spec: JobSpec) {
            self.init(queue: spec.queue, userID: spec.userID)
        }
    }

    private struct State {
        var lanes: [LaneName: Int64] = [:]
        var kinds: [String: Int32] = [:]
        /// The time at which each user was found to have as many lanes as allowed. The lanes are not counted
        /// again for a while.
        var fullUsers: [ExactText: ContinuousClock.Instant] = [:]
    }
    private static let fullUsersMax = 1_000
    private static let fullUserTime: Duration = .seconds(10)

    private let state = Mutex(State())

    private let queuesPerUserMax: Int

    init(
        lanesMax: Int = 200_000, kindsMax: Int = 10_000, queuesPerUserMax: Int = JobLimits.queuesPerUserMax
    ) {
        self.lanesMax = lanesMax
        self.kindsMax = kindsMax
        self.queuesPerUserMax = queuesPerUserMax
    }

    /// Forgets everything.
    func forget() {
        state.withLock { $0 = State() }
    }

    /// The numbers of each job's lane and kind; nil if not all of them are remembered.
    func known(_ jobs: [NewJob]) -> [LaneIDs]? {
        state.withLock { state in
            var ids: [LaneIDs] = []
            ids.reserveCapacity(jobs.count)
            for job in jobs {
                guard let lane = state.lanes[LaneName(job.spec)], let kind = state.kinds[job.spec.kind] else {
                    return nil
                }
                ids.append(LaneIDs(lane: lane, kind: kind))
            }
            return ids
        }
    }

    /// The numbers of each job's lane and kind. Missing ones are added first, in commits of their own, and are never
    /// removed. Nil for a job whose user would have lanes in more than `queuesPerUserMax` queues.
    ///
    /// - Parameter together: if there is such a job, no lane is added for the others either.
    func resolve(
        _ jobs: [NewJob], together: Bool = false, _ connection: Connection
    ) throws(PostgresError) -> [LaneIDs?] {
        if let ids = self.known(jobs) { return ids }
        let names = jobs.map { LaneName($0.spec) }
        // The numbers are copied, because the memory may be emptied while missing ones are added.
        let known = state.withLock { state in
            zip(names, jobs).map { name, job in (lane: state.lanes[name], kind: state.kinds[job.spec.kind]) }
        }
        var lanes = Dictionary(zip(names, known.map(\.lane)), uniquingKeysWith: { first, _ in first })
        var kinds = Dictionary(
            zip(jobs.map(\.spec.kind), known.map(\.kind)), uniquingKeysWith: { first, _ in first })
        let unknownKinds = kinds.filter { $0.value == nil }.map(\.key)
        if !unknownKinds.isEmpty {
            for (name, id) in try self.kinds(unknownKinds, connection) { kinds[name] = id }
        }
        let unknown = lanes.filter { $0.value == nil }.map(\.key)
        if !unknown.isEmpty {
            let loaded = try loadLanes(unknown, isLimited: true, together: together, connection)
            for (name, id) in loaded { lanes[name] = id }
        }
        var ids: [LaneIDs?] = []
        ids.reserveCapacity(jobs.count)
        for (name, job) in zip(names, jobs) {
            guard let kind = kinds[job.spec.kind] ?? nil else {
                throw PostgresError(.decoding, "a kind was not found after adding it")
            }
            ids.append((lanes[name] ?? nil).map { LaneIDs(lane: $0, kind: kind) })
        }
        return ids
    }

    /// The number of one lane. A missing lane is added, however many lanes the user has.
    func lane(queue: String, userID: ExactText, _ connection: Connection) throws(PostgresError) -> Int64 {
        let name = LaneName(queue: queue, userID: userID)
        guard let lane = try loadLanes([name], isLimited: false, connection)[name] else {
            throw PostgresError(.decoding, "a lane was not found after adding it")
        }
        return lane
    }

    /// The numbers of kinds, by name. Missing kinds are added.
    func kinds(_ names: [String], _ connection: Connection) throws(PostgresError) -> [String: Int32] {
        try connection.execute(AddKinds(names: names))
        let result = try connection.execute(FindKinds(names: names))
        let name: Column<String> = try result.column("name")
        let id: Column<Int32> = try result.column("id")
        var found: [String: Int32] = [:]
        for row in result { found[try row[name]] = try row[id] }
        let kinds = found
        state.withLock { state in
            if state.kinds.count + kinds.count > kindsMax { state.kinds = [:] }
            state.kinds.merge(kinds) { _, new in new }
        }
        return found
    }

    /// - Parameters:
    ///   - isLimited: lanes beyond a user's limit are not added.
    ///   - together: if one lane is beyond the limit, none is added.
    private func loadLanes(
        _ names: [LaneName], isLimited: Bool, together: Bool = false, _ connection: Connection
    ) throws(PostgresError) -> [LaneName: Int64] {
        var found = try findLanes(names, connection)
        var missing = names.filter { found[$0] == nil }
        if isLimited, !missing.isEmpty {
            let allowed = try allowed(of: missing, connection)
            missing = together && allowed.count < missing.count ? [] : allowed
        }
        if !missing.isEmpty {
            try connection.execute(AddQueues(names: missing.map(\.queue)))
            try connection.execute(AddLanes(queues: missing.map(\.queue), users: missing.map(\.userID)))
            let added = try findLanes(missing, connection)
            guard added.count == missing.count else {
                throw PostgresError(.decoding, "a lane was not found after adding it")
            }
            found.merge(added) { _, new in new }
        }
        let lanes = found
        state.withLock { state in
            if state.lanes.count + lanes.count > lanesMax { state.lanes = [:] }
            state.lanes.merge(lanes) { _, new in new }
        }
        return found
    }

    private func findLanes(
        _ names: [LaneName], _ connection: Connection
    ) throws(PostgresError) -> [LaneName: Int64] {
        let result = try connection.execute(
            FindLanes(queues: names.map(\.queue), users: names.map(\.userID)))
        let queue: Column<String> = try result.column("name")
        let userID: Column<ExactText> = try result.column("user_id")
        let id: Column<Int64> = try result.column("id")
        var found: [LaneName: Int64] = [:]
        for row in result {
            found[LaneName(queue: try row[queue], userID: try row[userID])] = try row[id]
        }
        return found
    }

    /// The missing lanes that their users may have. Two nodes that count at the same time may add a few too many.
    private func allowed(
        of missing: [LaneName], _ connection: Connection
    ) throws(PostgresError) -> [LaneName] {
        let now = ContinuousClock.now
        let users = Set(missing.map(\.userID))
        let full = state.withLock { state in
            users.filter { state.fullUsers[$0].map { $0.duration(to: now) < Self.fullUserTime } ?? false }
        }
        let others = Array(users.subtracting(full))
        var room: [ExactText: Int] = [:]
        if !others.isEmpty {
            let result = try connection.execute(CountLanes(users: others, countMax: Int64(queuesPerUserMax)))
            let user: Column<ExactText> = try result.column("user_id")
            let lanes: Column<Int64> = try result.column("lanes")
            for row in result { room[try row[user]] = queuesPerUserMax - Int(try row[lanes]) }
        }
        let newlyFull = room.filter { $0.value <= 0 }.map(\.key)
        if !newlyFull.isEmpty {
            state.withLock { state in
                if state.fullUsers.count + newlyFull.count > Self.fullUsersMax { state.fullUsers = [:] }
                for user in newlyFull.prefix(Self.fullUsersMax) { state.fullUsers[user] = now }
            }
        }
        return missing.filter { name in
            let user = name.userID
            guard let left = room[user], left > 0 else { return false }
            room[user] = left - 1
            return true
        }
    }
}

struct AddQueues: Command {
    let names: [String]

    static let statement = ParameterizedStatement<Self>(
        "add_queues",
        "INSERT INTO queue (name) SELECT DISTINCT unnest(\(\.names)) ORDER BY 1 ON CONFLICT DO NOTHING")
}

struct AddLanes: Command {
    let queues: [String]
    let users: [ExactText]

    static let statement = ParameterizedStatement<Self>(
        "add_lanes",
        """
        INSERT INTO lane (queue, user_id)
        SELECT DISTINCT q.id, t.user_id FROM unnest(\(\.queues), \(\.users)) AS t(queue, user_id)
        JOIN queue q ON q.name = t.queue
        ORDER BY 1, 2
        ON CONFLICT DO NOTHING
        """)
}

struct FindLanes: Command {
    let queues: [String]
    let users: [ExactText]

    static let statement = ParameterizedStatement<Self>(
        "find_lanes",
        """
        SELECT q.name, l.user_id, l.id FROM unnest(\(\.queues), \(\.users)) AS t(queue, user_id)
        JOIN queue q ON q.name = t.queue JOIN lane l ON l.queue = q.id AND l.user_id = t.user_id
        """)
}

/// Counts the lanes of each user.
struct CountLanes: Command {
    let users: [ExactText]
    /// The most lanes that it counts for each user.
    let countMax: Int64

    static let statement = ParameterizedStatement<Self>(
        "count_lanes",
        """
        SELECT u.user_id, (SELECT count(*) FROM (
            SELECT FROM lane WHERE \(.lookUp("lane.user_id", "u.user_id")) LIMIT \(\.countMax)
        ) l) AS lanes FROM unnest(\(\.users)) AS u (user_id)
        """)
}

struct AddKinds: Command {
    let names: [String]

    static let statement = ParameterizedStatement<Self>(
        "add_kinds",
        "INSERT INTO kind (name) SELECT DISTINCT unnest(\(\.names)) ORDER BY 1 ON CONFLICT DO NOTHING")
}

struct FindKinds: Command {
    let names: [String]

    static let statement = ParameterizedStatement<Self>(
        "find_kinds", "SELECT name, id FROM kind WHERE name = ANY (\(\.names))")
}
