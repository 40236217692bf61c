import Crypto
import JobModel
import Postgres
import Support

/// A column of `job`: its name, how an insert writes it, and how a spec is read from it. The statements that add jobs and
/// those that read them are made from `JobColumn.all`.
struct JobColumn: Sendable {
    /// The statements that read the column.
    enum Readers: Sendable {
        /// Reads of whole jobs, `JobRecord`.
        case records
        /// Reads of whole jobs and of what a run needs, `ClaimedRun`.
        case recordsAndRuns
    }

    typealias Read = (Row, inout JobSpec) throws(PostgresError) -> Void

    let name: String
    /// The arrays that an insert unnests, one element per job, with the names of their columns in `input`.
    fileprivate let inputs: [(name: String, values: Parameter<InsertJobs>)]
    /// The column's value, from the columns of `input`.
    fileprivate let value: String
    fileprivate let readers: Readers?
    /// The text that follows the column's name where it is read, such as `::text`.
    fileprivate var cast = ""
    /// A value that cannot be read is left out of a run: it must hold up neither the claim of other jobs, nor the renewal
    /// of a lease, nor the rescue of runs. Reads of the whole job fail.
    // exact: the names are our own
    fileprivate var mayBeUnreadForRuns: Bool { name == "labels" }
    /// Finds the column in a result.
    fileprivate let reader: (@Sendable (QueryResult) throws(PostgresError) -> Read)?

    /// The columns that callers set, in the order of the table. `number` and `created_at` have defaults.
    static let all = [
        JobColumn("id", write: { $0.id }),
        // Null if the database does not have the lane or the kind under the number that is remembered: the statement fails.
        JobColumn(
            "lane", inputs: [("lane_index", Parameter("lane_index") { $0.names.laneIndexes })],
            value: "nullif((SELECT numbers FROM lanes)[lane_index], 0)"),
        JobColumn("user_id", write: { $0.spec.userID }),
        JobColumn(
            "kind", inputs: [("kind_index", Parameter("kind_index") { $0.names.kindIndexes })],
            value: "nullif((SELECT numbers FROM kinds)[kind_index], 0)"),
        JobColumn(
            "priority", write: { Int16($0.spec.priority) }, readers: .recordsAndRuns,
            read: { $0.priority = Int($1) }),
        JobColumn(
            "max_attempts", write: { Int32($0.spec.maxAttempts) }, readers: .recordsAndRuns,
            read: { $0.maxAttempts = Int($1) }),
        JobColumn(
            "due_at",
            inputs: [
                ("run_at", Parameter("run_at") { $0.jobs.map(\.spec.runAt) }),
                ("delay_us", Parameter("delay_us") { $0.jobs.map(\.spec.delayMicroseconds) }),
            ], value: "coalesce(run_at, now() + delay_us * interval '1 microsecond')"),
        JobColumn(
            "timeout_ms", write: { $0.spec.timeout?.milliseconds }, readers: .recordsAndRuns,
            read: { $0.timeout = $1.map { .milliseconds($0) } }),
        JobColumn(
            "soft_timeout_ms", write: { $0.spec.softTimeout?.milliseconds }, readers: .recordsAndRuns,
            read: { $0.softTimeout = $1.map { .milliseconds($0) } }),
        JobColumn(
            "retry_initial_ms", write: { $0.spec.retryPolicy.initialDelay.milliseconds },
            readers: .recordsAndRuns,
            read: { $0.retryPolicy.initialDelay = .milliseconds($1) }),
        JobColumn(
            "retry_factor", write: { $0.spec.retryPolicy.factor }, readers: .recordsAndRuns,
            read: { $0.retryPolicy.factor = $1 }),
        JobColumn(
            "retry_max_ms", write: { $0.spec.retryPolicy.maxDelay.milliseconds }, readers: .recordsAndRuns,
            read: { $0.retryPolicy.maxDelay = .milliseconds($1) }),
        JobColumn(
            "retry_jitter", write: { $0.spec.retryPolicy.jitter }, readers: .recordsAndRuns,
            read: { $0.retryPolicy.jitter = $1 }),
        JobColumn(
            "content_type", write: { $0.spec.contentType }, readers: .recordsAndRuns,
            read: { $0.contentType = $1 }),
        JobColumn(
            "idempotency_key", write: { $0.spec.idempotencyKey }, readers: .records,
            read: { $0.idempotencyKey = $1 }),
        JobColumn("digest", writeAll: { $0.digests }),
        JobColumn(
            "labels", write: { Labels.json($0.spec.labels) }, as: "labels::jsonb", readers: .recordsAndRuns,
            cast: "::text",
            read: { (spec: inout JobSpec, json: String?) throws(PostgresError) in
                guard let labels = json.map({ Labels.parse($0) }) ?? [:] else {
                    throw PostgresError(.decoding, "the labels are not an object of texts")
                }
                spec.labels = labels
            }),
        JobColumn("payload", write: { $0.spec.payload }),
    ]
}

extension JobColumn {
    private init(
        _ name: String, inputs: [(name: String, values: Parameter<InsertJobs>)], value: String
    ) {
        self.name = name
        self.inputs = inputs
        self.value = value
        readers = nil
        reader = nil
    }

    /// A column that is not read into a spec.
    private init<Value: ParameterElement>(
        _ name: String, writeAll values: @escaping @Sendable (InsertJobs) -> [Value]
    ) {
        self.init(name, inputs: [(name, Parameter(name, values))], value: name)
    }

    /// A column that is not read into a spec.
    private init<Value: ParameterElement>(_ name: String, write value: @escaping @Sendable (NewJob) -> Value)
    {
        self.init(name, writeAll: { $0.jobs.map(value) })
    }

    // This is inlined, so that the closure that reads a column is compiled for the type of its values.
    @inline(__always)
    private init<Value: ParameterElement & ColumnValue>(
        _ name: String, write value: @escaping @Sendable (NewJob) -> Value, as inserted: String? = nil,
        readers: Readers, cast: String = "",
        read: @escaping @Sendable (inout JobSpec, Value) throws(PostgresError) -> Void
    ) {
        self.name = name
        inputs = [(name, Parameter(name) { $0.jobs.map(value) })]
        self.value = inserted ?? name
        self.readers = readers
        self.cast = cast
        reader = { result throws(PostgresError) in
            let column: Column<Value> = try result.column(Self.alias(name))
            return { row, spec throws(PostgresError) in try read(&spec, try Value.read(row, column.index)) }
        }
    }

    /// The name of the column in a read. It needs one of its own, because other columns may have the same name:
    /// `max_attempts` of `live` is the number of the last attempt that is allowed.
    fileprivate static func alias(_ name: String) -> String { "spec_\(name)" }

    fileprivate func isRead(by readers: Readers) -> Bool {
        switch (self.readers, readers) {
        case (nil, _), (.records, .recordsAndRuns): false
        case (.records, .records), (.recordsAndRuns, _): true
        }
    }
}

extension SQL where Input == InsertJobs {
    /// The rows of `job`, as `new`. Arrays are unnested in the list of columns: in FROM, Postgres would first write their
    /// rows to a store of their own, and read them from there.
    static func newJobs(mayConflict: Bool) -> SQL {
        var input: SQL = ""
        var separator = ""
        for column in JobColumn.all.flatMap(\.inputs) {
            input = "\(input)\(sql: separator)unnest(\(column.values)) AS \(sql: column.name)"
            separator = ", "
        }
        let names = JobColumn.all.map(\.name).joined(separator: ", ")
        let values = JobColumn.all.map(\.value).joined(separator: ", ")
        return """
            \(confirmedNames), input AS (SELECT \(input)), new AS (
                INSERT INTO job (\(sql: names)) SELECT \(sql: values) FROM input
                \(sql: mayConflict ? "ON CONFLICT DO NOTHING" : "")
                RETURNING number, id, lane, kind, priority, max_attempts, created_at, due_at
            )
            """
    }
}

extension SQL where Input == InsertJobs {
    /// The numbers of lanes and kinds that are remembered, as far as the database has them under the same names; else 0. A
    /// database that has lost commits may have given them to others.
    private static let confirmedNames: SQL = """
        lanes AS MATERIALIZED (
            SELECT ARRAY(
                SELECT coalesce((
                    SELECT lane.id FROM lane JOIN queue ON queue.id = lane.queue
                    WHERE lane.id = known.id AND lane.user_id = known.user_id AND queue.name = known.queue), 0)
                FROM unnest(\(\.names.lanes), \(\.names.users), \(\.names.queues))
                    WITH ORDINALITY AS known (id, user_id, queue, ordinal)
                ORDER BY known.ordinal) AS numbers
        ), kinds AS MATERIALIZED (
            SELECT ARRAY(
                SELECT coalesce((SELECT kind.id FROM kind WHERE kind.id = known.id AND kind.name = known.name), 0)
                FROM unnest(\(\.names.kinds), \(\.names.kindNames)) WITH ORDINALITY AS known (id, name, ordinal)
                ORDER BY known.ordinal) AS numbers
        )
        """
}

/// The lanes and kinds of the jobs of one statement, each once, and the place of each job's own among them, from 1.
struct JobNames: Sendable {
    private(set) var lanes: [Int64] = []
    private(set) var users: [ExactText] = []
    private(set) var queues: [String] = []
    private(set) var laneIndexes: [Int32] = []
    private(set) var kinds: [Int32] = []
    private(set) var kindNames: [String] = []
    private(set) var kindIndexes: [Int32] = []

    init(_ jobs: [NewJob], _ ids: [LaneIDs]) {
        var laneIndexes: [Int64: Int32] = [:]
        var kindIndexes: [Int32: Int32] = [:]
        self.laneIndexes.reserveCapacity(jobs.count)
        self.kindIndexes.reserveCapacity(jobs.count)
        for (job, ids) in zip(jobs, ids) {
            if let index = laneIndexes[ids.lane] {
                self.laneIndexes.append(index)
            } else {
                lanes.append(ids.lane)
                users.append(job.spec.userID)
                queues.append(job.spec.queue)
                let index = Int32(lanes.count)
                laneIndexes[ids.lane] = index
                self.laneIndexes.append(index)
            }
            if let index = kindIndexes[ids.kind] {
                self.kindIndexes.append(index)
            } else {
                kinds.append(ids.kind)
                kindNames.append(job.spec.kind)
                let index = Int32(kinds.count)
                kindIndexes[ids.kind] = index
                self.kindIndexes.append(index)
            }
        }
    }
}

extension SQL {
    /// The columns that `SpecReader` reads, of the table `job` under its name in the statement.
    static func specColumns(of job: String, for readers: JobColumn.Readers) -> SQL {
        let columns = JobColumn.all.filter { $0.isRead(by: readers) }
        let list = columns.map { "\(job).\($0.name)\($0.cast) AS \(JobColumn.alias($0.name))" }
        return "\(sql: list.joined(separator: ", "))"
    }
}

/// Reads the columns of `SQL.specColumns` of one result.
struct SpecReader {
    private let readers: [JobColumn.Read]

    init(_ result: QueryResult, for readers: JobColumn.Readers) throws(PostgresError) {
        var found: [JobColumn.Read] = []
        for column in JobColumn.all where column.isRead(by: readers) {
            guard let reader = column.reader else { continue }
            let read = try reader(result)
            guard case .recordsAndRuns = readers, column.mayBeUnreadForRuns else {
                found.append(read)
                continue
            }
            found.append { row, spec in
                do throws(PostgresError) { try read(row, &spec) } catch {}
            }
        }
        self.readers = found
    }

    /// - Parameter id: names the job in errors.
    func read(_ row: Row, into spec: inout JobSpec, of id: JobID) throws(PostgresError) {
        do throws(PostgresError) {
            for read in readers { try read(row, &spec) }
        } catch {
            var error = error
            error.message += " (job \(id))"
            throw error
        }
    }
}

/// A digest by which a repeated request is recognized: SHA-256 over every field that the caller sets, after defaults, except
/// the job's id, and each with its length. Digests are stored in `job`, and nodes of other versions compare them, so a new
/// field must not change the digests of requests that do not set it.
///
/// The digest covers the idempotency key too, because earlier versions stored it so. But requests that differ in their key
/// alone have the same content, so they are compared with the key of the job that exists.
enum RequestDigest {
    /// Whether both requests have the same content.
    static func isSame(_ spec: JobSpec, as first: JobSpec) -> Bool {
        digest(of: spec, key: first.idempotencyKey) == digest(of: first)
    }

    static func digest(of spec: JobSpec) -> [UInt8] {
        digest(of: spec, key: spec.idempotencyKey)
    }

    /// - Parameter key: stands for the spec's own idempotency key.
    static func digest(of spec: JobSpec, key: ExactText?) -> [UInt8] {
        var hash = SHA256()
        func add(_ bytes: some Collection<UInt8>) {
            var length = UInt64(bytes.count).littleEndian
            withUnsafeBytes(of: &length) { hash.update(bufferPointer: $0) }
            hash.update(data: Array(bytes))
        }
        func add(_ text: String) { add(Array(text.utf8)) }
        add(spec.kind)
        add(spec.userID.text)
        add(spec.queue)
        add(spec.contentType.text)
        add(key?.text ?? "")
        add(spec.payload)
        switch spec.due {
        case .after(let delay): add("after \(delay.microseconds)")
        case .at(let moment): add("at \(moment.microseconds)")
        }
        let policy = spec.retryPolicy
        add("\(spec.priority) \(spec.maxAttempts)")
        add(
            "\(policy.initialDelay.microseconds) \(policy.factor) \(policy.maxDelay.microseconds) \(policy.jitter)"
        )
        add("\(spec.timeout?.microseconds ?? -1) \(spec.softTimeout?.microseconds ?? -1)")
        for (key, value) in spec.labels.sorted(by: { $0.key < $1.key }) {
            add(key.text)
            add(value.text)
        }
        return Array(hash.finalize())
    }
}

extension JobSpec {
    fileprivate var runAt: Timestamp? {
        if case .at(let moment) = due { moment } else { nil }
    }

    /// The delay, which only counts if there is no `runAt`.
    fileprivate var delayMicroseconds: Int64 {
        if case .after(let delay) = due { delay.microseconds } else { 0 }
    }
}
