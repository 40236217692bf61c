package import JobModel
import Postgres
package import Support

/// Sets or clears the limit of a user in a queue. It changes nothing if the queue or the user does not exist. An audit entry
/// is written for a real change only.
struct SetUserLimit: Command, Audited {
    let queue: String
    let userID: ExactText
    let limit: Int32?
    let caller: Caller

    static let statement = ParameterizedStatement<Self>(
        "set_user_limit",
        """
        WITH changed AS (
            UPDATE lane SET user_limit = \(\.limit) FROM queue
            WHERE queue.name = \(\.queue) AND lane.queue = queue.id AND lane.user_id = \(\.userID)
                AND lane.user_limit IS DISTINCT FROM \(\.limit)
            RETURNING queue.name, lane.user_id, lane.user_limit
        )
        \(.auditing(
            "set_user_limit", by: .caller, queue: "name", userID: "user_id", userLimit: "user_limit",
            from: "changed"))
        """)
}

struct GetUserLimit: Command {
    let userID: ExactText
    let queue: String
    let defaultLimit: Int32

    static let statement = ParameterizedStatement<Self>(
        "get_user_limit",
        """
        SELECT coalesce(l.user_limit, q.user_limit, \(\.defaultLimit)) AS user_limit,
            l.user_limit IS NOT NULL AS is_override,
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.lane = l.id) AS running
        FROM (SELECT 1) AS one LEFT JOIN queue q ON q.name = \(\.queue)
        LEFT JOIN lane l ON l.queue = q.id AND l.user_id = \(\.userID)
        """)
}

/// Reads a page of the limits that were set, in the order of user and queue. It walks the index of these limits, which has
/// as many entries as limits were set.
struct ListUserLimits: Sendable {
    let users: UserScope
    let queue: String?
    /// The number of the lane behind which the page begins; 0: the first page.
    let after: Int64
    let size: Int64

    static let all = ParameterizedStatement<Self>("list_user_limits", listing(users: "", lane: "true"))

    static let ofUsers = ParameterizedStatement<Self>(
        "list_user_limits_of_users",
        listing(
            users: "(SELECT DISTINCT unnest(\(\.users)) AS user_id) u CROSS JOIN",
            lane: .lookUp("lane.user_id", "u.user_id")))

    /// - Parameters:
    ///   - users: joined before the lanes.
    ///   - condition: selects the lanes.
    private static func listing(users: SQL<Self>, lane condition: SQL<Self>) -> SQL<Self> {
        """
        WITH last AS MATERIALIZED (
            SELECT lane.user_id, queue.name FROM lane JOIN queue ON queue.id = lane.queue WHERE lane.id = \(\.after)
        )
        SELECT l.id, l.user_id, queue.name AS queue, l.user_limit,
            (SELECT count(*) FROM live WHERE live.state = 'running' AND live.lane = l.id) AS running
        FROM \(users) LATERAL (
            SELECT id, user_id, queue, user_limit FROM lane
            WHERE user_limit IS NOT NULL AND \(condition)
                AND user_id >= coalesce((SELECT user_id FROM last), '')) l
        JOIN queue ON \(.lookUp("queue.id", "l.queue"))
        WHERE (\(\.queue) IS NULL OR queue.name = \(\.queue))
            AND (\(\.after) = 0 OR (l.user_id, queue.name) > (SELECT user_id, name FROM last))
        ORDER BY l.user_id, queue.name LIMIT \(\.size)
        """
    }
}

extension JobStore {
    /// Sets a user's limit in a queue. With nil, the queue's limit applies again; for an unknown user, nil
    /// changes nothing.
    package func setUserLimit(
        _ limit: Int?, userID: ExactText, queue: String, by caller: Caller
    ) async throws(StoreError) {
        _ = try await run("user_limit") { [catalog] connection throws(PostgresError) in
            if limit != nil { _ = try catalog.lane(queue: queue, userID: userID, connection) }
            return try connection.execute(
                SetUserLimit(queue: queue, userID: userID, limit: limit.map { Int32($0) }, caller: caller)
            ).affectedRows
        }
    }

    package func userLimit(
        userID: ExactText, queue: String, default: Int
    ) async throws(StoreError) -> UserLimit {
        try await read("get_user_limit") { connection throws(PostgresError) in
            let result = try connection.execute(
                GetUserLimit(userID: userID, queue: queue, defaultLimit: Int32(`default`)))
            let row = try result.onlyRow
            let limit: Int32 = try row[result.column("user_limit")]
            let running: Int64 = try row[result.column("running")]
            return UserLimit(
                userID: userID, queue: queue, maxRunning: Int(limit),
                isOverridden: try row[result.column("is_override")], running: Int(running))
        }
    }

    /// One page of the limits that were set for these users, in the order of user and queue. The position of a limit is the
    /// number of its lane, which is never removed.
    ///
    /// - Parameter queue: nil: in every queue.
    package func userLimits(
        of users: UserScope, queue: String?, after position: Int64?, size: Int
    ) async throws(StoreError) -> StorePage<UserLimit> {
        try await read("user_limits", isLong: true) { connection throws(PostgresError) in
            let list = ListUserLimits(
                users: users, queue: queue, after: position ?? 0, size: Int64(size + 1))
            let result = try connection.execute(
                users == .all ? ListUserLimits.all : ListUserLimits.ofUsers, list)
            let lane: Column<Int64> = try result.column("id")
            let userID: Column<ExactText> = try result.column("user_id")
            let queue: Column<String> = try result.column("queue")
            let limit: Column<Int32> = try result.column("user_limit")
            let running: Column<Int64> = try result.column("running")
            var limits: [(item: UserLimit, position: Int64)] = []
            for row in result {
                let limit = UserLimit(
                    userID: try row[userID], queue: try row[queue], maxRunning: Int(try row[limit]),
                    isOverridden: true, running: Int(try row[running]))
                limits.append((limit, try row[lane]))
            }
            return StorePage(limits, size: size)
        }
    }
}
