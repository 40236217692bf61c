import FoundationEssentials
import JobModel
import Postgres
import Support

extension JobRecord {
    /// From the columns of `Statement.recordColumns`, then the result and its type.
    init(_ row: Row) throws(PostgresError) {
        let id = JobID(try row.uuid(1))
        let spec = JobSpec(
            kind: try row.string(2), userID: ExactText(try row.string(3)), queue: try row.string(4),
            contentType: ExactText(try row.string(14)),
            idempotencyKey: try row.optionalString(15).map { ExactText($0) },
            priority: Int(try row.int16(5)), maxAttempts: Int(try row.int32(6)),
            retryPolicy: RetryPolicy(
                initialDelay: .milliseconds(try row.int64(10)), factor: try row.double(11),
                maxDelay: .milliseconds(try row.int64(12)), jitter: try row.double(13)),
            timeout: try row.optionalInt64(8).map { .milliseconds($0) },
            softTimeout: try row.optionalInt64(9).map { .milliseconds($0) },
            labels: try row.labels(16, of: id))
        self.init(
            number: try row.int64(0), id: id, spec: spec,
            state: try row.word(17, "state", of: "job \(id)"), sequence: try row.int64(18),
            createdAt: Timestamp(microseconds: try row.timestamp(7)),
            dueAt: Timestamp(microseconds: try row.timestamp(21)))
        attempt = Int(try row.int32(19))
        self.spec.maxAttempts = Int(try row.int32(20))
        startedAt = try row.optionalTimestamp(22).map { Timestamp(microseconds: $0) }
        finishedAt = try row.optionalTimestamp(23).map { Timestamp(microseconds: $0) }
        cancelRequested = try row.bool(24)
        if let reason = try row.optionalString(25) {
            error = JobError(reason: reason, message: try row.optionalString(26) ?? "")
        }
        if let stage = try row.optionalString(27) {
            progress = Progress(
                stage: stage, fraction: try row.double(28), message: try row.string(29),
                step: Int(try row.int32(30)), steps: Int(try row.int32(31)),
                updatedAt: Timestamp(microseconds: try row.timestamp(32)))
        }
        if let data = try row.optionalBytes(34) {
            result = JobResult(data: data, contentType: ExactText(try row.optionalString(35) ?? ""))
        }
    }
}

extension LogLine {
    /// From the columns of `Statement.findLogs`.
    init(_ row: Row) throws(PostgresError) {
        let line = try row.int64(0)
        let job = try row.int64(5)
        self.init(
            number: line, at: Timestamp(microseconds: try row.timestamp(1)), attempt: Int(try row.int32(2)),
            level: try row.word(3, "log level", of: "line \(line) of job number \(job)"),
            message: try row.string(4))
    }
}

extension JobChange {
    /// From the columns of `Statement.findEvents`.
    init(_ row: Row) throws(PostgresError) {
        let id = JobID(try row.uuid(1))
        let sequence = try row.int64(5)
        let reason = try row.optionalString(12)
        let result = try row.optionalBytes(14)
        self.init(
            key: JobKey(number: try row.int64(0), lane: try row.int64(16), id: id),
            kind: try row.string(2), userID: ExactText(try row.string(3)), queue: try row.string(4),
            sequence: sequence, type: try row.word(6, "event type", of: "event \(sequence) of job \(id)"),
            attempt: Int(try row.int32(7)), node: try row.optionalString(8),
            startedAt: try row.optionalTimestamp(9).map { Timestamp(microseconds: $0) },
            at: Timestamp(microseconds: try row.timestamp(10)),
            dueAt: try row.optionalTimestamp(11).map { Timestamp(microseconds: $0) },
            error: reason.map { [message = try row.optionalString(13)] in
                JobError(reason: $0, message: message ?? "")
            },
            result: result.map { [type = try row.optionalString(15)] in
                JobResult(data: $0, contentType: ExactText(type ?? ""))
            })
    }
}

extension Row {
    /// None for NULL.
    fileprivate func labels(_ column: Int, of job: JobID) throws(PostgresError) -> [ExactText: ExactText] {
        guard let json = try optionalString(column) else { return [:] }
        guard let labels = Labels.parse(json) else {
            throw PostgresError(.decoding, "the labels of job \(job) are no object of texts")
        }
        return labels
    }
}
