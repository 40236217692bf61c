package import JobModel
import Postgres
import Support

// Every change that a call makes has an audit entry, written by the statement that makes the change or in its transaction:
// there is no change without an entry, and no entry of a change that was rolled back.

extension SQL where Input == InsertJobs {
    /// The audit entries of new jobs: one for each caller.
    static func auditingNewJobs(mayConflict: Bool) -> SQL {
        let all: SQL = "SELECT unnest(\(JobCallers.ids)) AS id, unnest(\(\.callers.ordinals)) AS caller"
        let caller: SQL = """
            (\(\.callers.names))[caller], (\(\.callers.addresses))[caller], (\(\.callers.sources))[caller]::audit_source
            """
        // Only jobs that were really added have entries. This is not a join, because the planner can only guess
        // how many rows a WITH query returns, and might compare each row with each.
        let added: SQL = """
            SELECT id, max(caller) AS caller FROM (
                SELECT id, NULL::int AS caller FROM new
                UNION ALL \(all)) known
            GROUP BY id HAVING count(*) = 2
            """
        let entries: SQL = auditing(
            "enqueue", by: caller, jobs: "array_agg(id)",
            from: "(\(mayConflict ? added : all)) added GROUP BY caller")
        return "audited AS (\(entries))"
    }
}

/// Removes old audit entries. Only one node does it at a time, and each statement removes a bounded number of
/// rows, so that other statements do not wait for it.
struct TrimAudit: Command {
    let retentionMilliseconds: Int64
    let countMax: Int64

    static let statement = ParameterizedStatement<Self>(
        "trim_audit",
        """
        WITH permit AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock('audit_entry'::regclass::oid::bigint << 32) AS mine
        )
        DELETE FROM audit_entry WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM audit_entry
            WHERE (SELECT mine FROM permit)
                AND at < now() - \(\.retentionMilliseconds) * interval '1 millisecond'
            ORDER BY at, id LIMIT \(\.countMax)))
        """)
}

/// The callers of the jobs of a commit: each caller once, and for each job the ordinal of its caller.
struct JobCallers {
    struct Name: Hashable {
        let caller: Caller

        /// Callers are compared by their bytes, so that two of them whose names are only equivalent in Unicode
        /// stay different.
        static func == (left: Name, right: Name) -> Bool {
            left.caller.source == right.caller.source
                && left.caller.name.hasSameBytes(as: right.caller.name)
                && left.caller.address.hasSameBytes(as: right.caller.address)
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(ExactText(caller.name))
            hasher.combine(ExactText(caller.address))
        }
    }

    private(set) var names: [String] = []
    private(set) var addresses: [String] = []
    private(set) var sources: [String] = []
    /// The index of each job's caller, from 1 as in Postgres' arrays.
    private(set) var ordinals: [Int32] = []

    /// The ids of the jobs, in order.
    static let ids = Parameter<InsertJobs>("id") { $0.jobs.map(\.id) }

    init(_ jobs: [NewJob]) {
        ordinals.reserveCapacity(jobs.count)
        var known: [Name: Int32] = [:]
        var last: (name: Name, ordinal: Int32)?
        for job in jobs {
            let name = Name(caller: job.caller)
            // Most commits have few callers, and a batch has one.
            if let last, last.name == name {
                ordinals.append(last.ordinal)
                continue
            }
            let ordinal: Int32
            if let before = known[name] {
                ordinal = before
            } else {
                names.append(job.caller.auditName)
                addresses.append(job.caller.auditAddress)
                sources.append(job.caller.source.rawValue)
                ordinal = Int32(names.count)
                known[name] = ordinal
            }
            last = (name, ordinal)
            ordinals.append(ordinal)
        }
    }
}

extension Caller {
    private static let nameBytesMax = 256
    private static let addressBytesMax = 64

    /// The caller's name, cut to a limit and without NUL, which text in Postgres cannot hold. It comes from
    /// outside.
    var auditName: String { name.cut(toBytes: Self.nameBytesMax) }
    var auditAddress: String { address.cut(toBytes: Self.addressBytesMax) }
    var auditSource: String { source.rawValue }
}

extension JobStore {
    /// Removes up to `countMax` entries of the audit that are older than `retention`. Returns how many.
    package func trimAudit(
        olderThan retention: Duration, atMost countMax: Int
    ) async throws(StoreError) -> Int {
        try await run("trim_audit") { connection throws(PostgresError) in
            try connection.execute(
                TrimAudit(retentionMilliseconds: retention.milliseconds, countMax: Int64(countMax))
            ).affectedRows
        }
    }
}
