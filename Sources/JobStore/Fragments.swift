import JobModel
import Postgres

// SQL that several statements share.

extension SQL {
    /// `column = value`, written so that the planner can only use the column's index. With an array of one element the
    /// condition can be neither hashed nor merged, so each value is looked up by the index.
    ///
    /// With a plain `=`, a plan that is made while a table is empty, as `live` often is, reads the whole table,
    /// because that is as cheap then. The plan is kept after the table has grown.
    static func lookUp(_ column: String, _ value: SQL) -> SQL { "\(sql: column) = ANY (ARRAY[\(value)])" }

    /// The condition that a row of `live` is the run that a row of `source` names by `number`, `token` and `started_at`
    /// (`RunFence`). It also checks that the job is running, because only then it has a token.
    static func isRun(_ source: String) -> SQL {
        """
        \(.lookUp("live.number", "\(sql: source).number")) AND live.token = \(sql: source).token
            AND live.started_at = \(sql: source).started_at
        """
    }

    /// The condition that a row belongs to a user for whom the caller may act.
    static func isAllowed(_ column: String, _ users: any KeyPath<Input, UserScope> & Sendable) -> SQL {
        "(\(users) IS NULL OR \(sql: column) = ANY (\(users)))"
    }

    /// Writes a row of the change log, from which the other nodes learn of the change. `row` selects its node,
    /// jobs, lanes, sequences, and whether a running job was asked to stop.
    static func announcing(_ row: SQL) -> SQL {
        "announced AS (INSERT INTO change (node, jobs, lanes, sequences, cancels) \(row))"
    }

    /// Announces all rows of `source`, which have a `number` and a `lane`, by one row of the change log; none if there are
    /// no rows.
    ///
    /// - Parameter sequence: the number of each job's last event; 0: its progress, log or a request to stop.
    static func announcing(
        _ source: SQL, node: any KeyPath<Input, Int32> & Sendable, sequence: SQL = "sequence"
    ) -> SQL {
        announcing(
            """
            SELECT \(node), array_agg(number), array_agg(lane), array_agg(\(sequence)), false
            FROM \(source) HAVING count(*) > 0
            """)
    }

    /// Writes audit entries.
    ///
    /// - Parameters:
    ///   - caller: three columns: the caller's name, address, and the source that names it.
    ///   - rows: where the entries come from: one for each row.
    static func auditing(
        _ action: StaticString, by caller: SQL, jobs: SQL = "NULL", queue: SQL = "NULL", userID: SQL = "NULL",
        userLimit: SQL = "NULL", from rows: SQL
    ) -> SQL {
        """
        INSERT INTO audit_entry (caller, address, source, action, jobs, queue, user_id, user_limit)
        SELECT \(caller), '\(sql: action.description)', \(jobs), \(queue), \(userID), \(userLimit) FROM \(rows)
        """
    }
}

/// The input of a statement that writes an audit entry.
protocol Audited {
    var caller: Caller { get }
}

extension SQL where Input: Audited {
    /// The caller's columns of an audit entry.
    static var caller: SQL {
        "\(\.caller.auditName), \(\.caller.auditAddress), \(\.caller.auditSource)::audit_source"
    }
}
