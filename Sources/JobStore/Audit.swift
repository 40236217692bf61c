package import JobModel
import Postgres
import Support

// Every change that a call makes has its row in the audit, by the statement that makes it or by one of its transaction:
// there is no change without it, and none of what was undone.

extension Statement {
    /// The entries of the jobs that a statement adds, from $2, the ids in order, $21 to $23, the callers, and $24, which of
    /// them asked for each job: one row for each caller.
    static func auditing(newJobsMayConflict mayConflict: Bool) -> String {
        """
        audited AS (
            INSERT INTO audit_entry (caller, address, source, action, jobs)
            SELECT ($21::text[])[place], ($22::text[])[place], ($23::text[])[place]::audit_source, 'enqueue',
                array_agg(id)
            FROM (\(mayConflict ? addedJobs : "SELECT unnest($2::uuid[]) AS id, unnest($24::int[]) AS place")) added
            GROUP BY place
        )
        """
    }

    /// Those of the jobs that are really new. Not by a join: for what comes out of a WITH the planner has only guesses, and
    /// may compare each with each.
    private static let addedJobs = """
        SELECT id, max(place) AS place FROM (
            SELECT id, NULL::int AS place FROM new
            UNION ALL SELECT unnest($2::uuid[]), unnest($24::int[])) known
        GROUP BY id HAVING count(*) = 2
        """

    /// One node at a time, a bounded number of rows a statement: nothing waits for it.
    static let trimAudit = Statement(
        "trim_audit",
        """
        WITH turn AS MATERIALIZED (
            SELECT pg_try_advisory_xact_lock('audit_entry'::regclass::oid::bigint << 32) AS mine
        )
        DELETE FROM audit_entry WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM audit_entry
            WHERE (SELECT mine FROM turn) AND at < now() - $1 * interval '1 millisecond'
            ORDER BY at, id LIMIT $2))
        """)
}

/// Who asked for the jobs of a commit: each caller once, and for each job which of them.
struct JobCallers {
    struct Name: Hashable {
        let caller: Caller

        /// By the bytes: what is kept of one is never told of another.
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
    /// From 1, as Postgres counts.
    private(set) var places: [Int32] = []

    init(_ jobs: [NewJob]) {
        places.reserveCapacity(jobs.count)
        var known: [Name: Int32] = [:]
        var last: (name: Name, place: Int32)?
        for job in jobs {
            let name = Name(caller: job.caller)
            // Most commits have few callers, and a batch has one.
            if let last, last.name == name {
                places.append(last.place)
                continue
            }
            let place: Int32
            if let before = known[name] {
                place = before
            } else {
                names.append(job.caller.auditName)
                addresses.append(job.caller.auditAddress)
                sources.append(job.caller.source.rawValue)
                place = Int32(names.count)
                known[name] = place
            }
            last = (name, place)
            places.append(place)
        }
    }
}

extension Parameters {
    /// Who is named in the audit: name, address, and how that is known.
    mutating func append(auditing caller: Caller) {
        append(caller.auditName)
        append(caller.auditAddress)
        append(caller.source.rawValue)
    }

    mutating func append(_ callers: JobCallers) {
        append(callers.names)
        append(callers.addresses)
        append(callers.sources)
        append(callers.places)
    }
}

extension Caller {
    private static let nameBytesMax = 256
    private static let addressBytesMax = 64

    /// A name comes from outside: the database takes no NUL, and no more than anybody wants to read.
    fileprivate var auditName: String { name.cut(toBytes: Self.nameBytesMax) }
    fileprivate var auditAddress: String { address.cut(toBytes: Self.addressBytesMax) }
}

extension JobStore {
    /// Removes up to `countMax` entries of the audit that are older than `retention`. Returns how many.
    package func trimAudit(
        olderThan retention: Duration, atMost countMax: Int
    ) async throws(StoreError) -> Int {
        try await run("trim_audit") { connection throws(PostgresError) in
            try connection.execute(
                .trimAudit,
                Parameters {
                    $0.append(retention.milliseconds)
                    $0.append(Int64(countMax))
                }
            ).affectedRows
        }
    }
}
