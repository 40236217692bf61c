import FoundationEssentials
import JobModel
import SignalboxProto
import NIOCore
import Support

/// Values with every field set, used by all tests.
enum Samples {
    static let id = JobID("0199aaaa-bbbb-7ccc-8ddd-eeeeffff0001") ?? JobID(UUID())

    static func at(_ seconds: Int64, _ microseconds: Int64 = 0) -> Timestamp {
        Timestamp(microseconds: seconds * 1_000_000 + microseconds)
    }

    static var draft: JobSpecDraft {
        var draft = JobSpecDraft()
        draft.kind = "speech/make"
        draft.userID = "ué"
        draft.queue = "night"
        draft.payload = Array("{\"a\":1}".utf8)
        draft.contentType = "application/json"
        draft.jobID = "\(id)"
        draft.idempotencyKey = "k1"
        draft.priority = -7
        draft.runAt = at(1_700_000_000, 123_456)
        draft.maxAttempts = 5
        draft.retryInitialDelay = .milliseconds(1500)
        draft.retryFactor = 3
        draft.retryMaxDelay = .seconds(60)
        draft.retryJitter = 0.25
        draft.timeout = .seconds(90)
        draft.softTimeout = .milliseconds(250)
        draft.labels = [("a", "1"), ("b", "2")]
        return draft
    }

    static var record: JobRecord {
        JobRecord(
            number: 0, id: id,
            spec: JobSpec(
                kind: "speech/make", userID: "ué", queue: "night", payload: Array("{\"a\":1}".utf8),
                idempotencyKey: "k1", priority: -7, due: .at(at(1_700_000_060)), maxAttempts: 2,
                timeout: .seconds(90), softTimeout: .seconds(80), labels: ["a": "1", "b": "2"]),
            state: .failed, sequence: 6, createdAt: at(1_700_000_000, 123_456), dueAt: at(1_700_000_060),
            startedAt: at(1_700_000_061), finishedAt: at(-1, 750_000), attempt: 2, attemptsUsed: 1,
            cancelRequested: true,
            progress: progress,
            result: JobResult(data: [0, 255], contentType: "application/octet-stream"),
            error: JobError(message: "too slow", cause: .timeout),
            attempts: [
                Attempt(
                    number: 1, node: "n1", startedAt: at(1_700_000_001), endedAt: at(1_700_000_002),
                    outcome: .interrupted, error: JobError(message: "gone", cause: .interrupted)),
                Attempt(
                    number: 2, node: "n2", startedAt: at(1_700_000_061), endedAt: nil, outcome: .timedOut,
                    error: nil),
            ],
            log: [LogLine(number: 1, at: at(1_700_000_001), attempt: 1, level: .warning, message: "hm")])
    }

    static var progress: Progress {
        Progress(
            stage: "mix", fraction: 0.5, message: "half", done: 1, total: 2, updatedAt: at(1_700_000_062))
    }

    /// As a watch or a list shows `record`.
    static func record(result: Bool) -> JobRecord {
        var record = record
        record.spec.payload = []
        record.attempts = []
        record.log = []
        if !result { record.result = nil }
        return record
    }

    static var event: JobEvent {
        JobEvent(
            jobID: id, sequence: 4, type: .retryScheduled, at: at(1_700_000_003), attempt: 1,
            node: "n1", error: JobError(message: "no", cause: .handler), dueAt: at(1_700_000_009),
            result: JobResult(data: [1], contentType: "a/b"), kind: "speech/make", userID: "ué",
            queue: "night")
    }
}

/// The wire, by hand (protobuf.dev/programming-guides/encoding).
enum Wire {
    static func varint(_ value: UInt64) -> [UInt8] {
        var rest = value
        var bytes: [UInt8] = []
        while rest > 0x7F {
            bytes.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        return bytes + [UInt8(rest)]
    }

    static func number(_ field: UInt64, _ value: Int64) -> [UInt8] {
        varint(field << 3) + varint(UInt64(bitPattern: value))
    }

    static func bytes(_ field: UInt64, _ value: [UInt8]) -> [UInt8] {
        varint(field << 3 | 2) + varint(UInt64(value.count)) + value
    }

    static func text(_ field: UInt64, _ value: String) -> [UInt8] {
        bytes(field, Array(value.utf8))
    }

    static func buffer(_ bytes: [UInt8]) -> ByteBuffer {
        ByteBuffer(bytes: bytes)
    }
}

extension RequestMessage {
    /// Decodes what must have no violation.
    static func clean(_ bytes: ByteBuffer) throws -> Self {
        var violations: [FieldViolation] = []
        let value = try decode(bytes, into: &violations)
        if let first = violations.first { throw DecodingError.invalid(first) }
        return value
    }

    static func violations(_ bytes: [UInt8]) throws -> [FieldViolation] {
        var violations: [FieldViolation] = []
        _ = try decode(Wire.buffer(bytes), into: &violations)
        return violations
    }
}

extension JobSpecDraft {
    /// A draft has tuples, so it is not Equatable; its description names every field.
    var described: String { String(describing: self) }
}
