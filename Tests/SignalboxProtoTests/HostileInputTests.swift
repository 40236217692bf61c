import JobModel
import SignalboxProto
import NIOCore
import Support
import TestRandom
import Testing

/// Bytes that no honest client sends.
@Suite struct HostileInputTests {
    @Test func truncationsNeverCrash() throws {
        let request = Array(
            EnqueueBatchRequest(jobs: [Samples.draft, Samples.draft]).encode().readableBytesView)
        for length in 0..<request.count {
            do {
                _ = try EnqueueBatchRequest.violations(Array(request[..<length]))
            } catch {
                #expect(error as? DecodingError == .malformed)
            }
        }
        let answer = Array(
            GetJobResponse(job: Samples.record, includePayload: true).encode().readableBytesView)
        for length in 0..<answer.count {
            #expect(throws: DecodingError.self) {
                try GetJobResponse.decode(Wire.buffer(Array(answer[..<length])))
            }
        }
    }

    @Test func changedBytesNeverCrash() {
        var random = SeededRandom(seed: 7)
        let messages = [
            EnqueueRequest(job: Samples.draft).encode(),
            GetJobResponse(job: Samples.record, includePayload: true).encode(),
            WatchResponse(.lifecycle(Samples.event)).encode(),
            ServerReflectionRequest(
                question: .fileContainingExtension(ExtensionRequest(containingType: "t", extensionNumber: 1))
            ).encode(),
        ].map { Array($0.readableBytesView) }
        for round in 0..<20_000 {
            var bytes = messages[round % messages.count]
            for _ in 0...(round % 3) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            var violations: [FieldViolation] = []
            let buffer = Wire.buffer(bytes)
            // Any outcome is right but a crash.
            _ = try? EnqueueRequest.decode(buffer, into: &violations)
            _ = try? EnqueueBatchRequest.decode(buffer, into: &violations)
            _ = try? ListJobsRequest.decode(buffer, into: &violations)
            _ = try? WatchRequest.decode(buffer, into: &violations)
            _ = try? ServerReflectionRequest.decode(buffer, into: &violations)
            _ = try? GetJobResponse.decode(buffer)
            _ = try? WatchResponse.decode(buffer)
            _ = try? StatusDetails.decode(bytes)
        }
    }

    @Test func amplificationIsRefused() {
        // Two million empty submessages in 4 MiB.
        let bytes = Array(repeatElement([0x0A, 0x00] as [UInt8], count: 2_000_000).joined())
        #expect(throws: DecodingError.tooLarge) { try EnqueueBatchRequest.violations(bytes) }
        #expect(throws: DecodingError.tooLarge) { try WatchRequest.violations(bytes) }
        #expect(throws: DecodingError.tooLarge) { try EnqueueRequest.violations(bytes) }
    }

    @Test func aSubmessageGivenOftenIsMergedWithinTheBudget() {
        // Each merge copies the labels of all before.
        let job = Wire.bytes(1, Wire.bytes(14, Wire.text(1, "k")))
        #expect(throws: DecodingError.tooLarge) {
            try JobResponse.decode(Wire.buffer(Array(repeatElement(job, count: 100_000).joined())))
        }
        // protobuf-c does not merge messages with a oneof of which nothing is set, and no client writes them.
        let spec = Wire.bytes(1, Wire.bytes(15, Wire.text(1, "k")))
        #expect(throws: DecodingError.malformed) {
            try EnqueueRequest.violations(Array(repeatElement(spec, count: 100_000).joined()))
        }
    }

    @Test func aFullBatchOfHonestJobsFits() throws {
        var draft = Samples.draft
        draft.payload = Array("{\"text\":\"\(String(repeating: "x", count: 100))\"}".utf8)
        let bytes = EnqueueBatchRequest(jobs: Array(repeating: draft, count: 10_000)).encode()
        #expect(bytes.readableBytes < 4 << 20)
        #expect(try EnqueueBatchRequest.clean(bytes).jobs.count == 10_000)
    }

    @Test func textMustBeUTF8WithoutNUL() throws {
        let invalid = Wire.bytes(1, Wire.bytes(1, [0xC3, 0x28]))
        #expect(
            try EnqueueRequest.violations(invalid)
                == [FieldViolation(field: "job.kind", reason: .malformed, description: "is not valid UTF-8")])
        let good = Wire.bytes(1, Wire.text(1, "k"))
        let nul = Wire.bytes(1, Wire.bytes(15, Wire.text(1, "a\0b")))
        #expect(
            try EnqueueBatchRequest.violations(good + good + good + nul)
                == [FieldViolation(field: "jobs[3].labels", reason: .malformed, description: "contains NUL")])
        #expect(try CancelRequest.violations(Wire.bytes(2, [0xFF])).map(\.field) == ["note"])
        let watched = Wire.bytes(1, Wire.text(1, "\0"))
        #expect(try WatchRequest.violations(watched).map(\.field) == ["jobs[0].job_id"])
    }

    @Test func bytesMayHoldAnything() throws {
        let payload: [UInt8] = [0, 0xFF, 0]
        let request = try EnqueueRequest.clean(Wire.buffer(Wire.bytes(1, Wire.bytes(4, payload))))
        #expect(request.job?.payload == payload)
    }

    @Test func violationsAreBounded() throws {
        let job = Wire.bytes(1, Wire.bytes(1, [0xFF]))
        #expect(
            try EnqueueBatchRequest.violations(Array(repeatElement(job, count: 9000).joined())).count == 64)
    }

    @Test(
        arguments: [
            (.max, 0), (.min, 0), (253_402_300_800, 0), (-62_135_596_801, 0), (0, 1_000_000_000),
            (0, -1), (0, Int64(Int32.max)), (0, Int64(Int32.min)),
        ] as [(Int64, Int64)])
    func timestampsOutOfRange(_ seconds: Int64, _ nanos: Int64) throws {
        let time = Wire.number(1, seconds) + Wire.number(2, nanos)
        #expect(
            try EnqueueRequest.violations(Wire.bytes(1, Wire.bytes(9, time))).map(\.field) == ["job.run_at"])
        #expect(
            try ListJobsRequest.violations(Wire.bytes(10, Wire.bytes(6, time))).map(\.field)
                == ["filter.created_from"])
    }

    @Test(
        arguments: [(253_402_300_799, 999_999_999), (-62_135_596_800, 0), (-1, 999_999_999)]
            as [(Int64, Int64)])
    func timestampsAtTheEdge(_ seconds: Int64, _ nanos: Int64) throws {
        let time = Wire.number(1, seconds) + Wire.number(2, nanos)
        let request = try ListJobsRequest.clean(Wire.buffer(Wire.bytes(10, Wire.bytes(6, time))))
        #expect(request.filter?.createdFrom == Samples.at(seconds, nanos / 1000))
        let again = try ListJobsRequest.clean(request.encode())
        #expect(again.filter?.createdFrom == request.filter?.createdFrom)
    }

    @Test(
        arguments: [
            (.max, 0), (.min, 0), (315_576_000_001, 0), (0, 1_000_000_000), (0, -1_000_000_000),
            (1, -1), (-1, 1), (0, Int64(Int32.min)),
        ] as [(Int64, Int64)])
    func durationsOutOfRange(_ seconds: Int64, _ nanos: Int64) throws {
        let time = Wire.number(1, seconds) + Wire.number(2, nanos)
        for (field, name) in [(10, "job.delay"), (13, "job.timeout"), (14, "job.soft_timeout")] {
            let job = Wire.bytes(1, Wire.bytes(UInt64(field), time))
            #expect(try EnqueueRequest.violations(job).map(\.field) == [name])
        }
        let policy = Wire.bytes(12, Wire.bytes(1, time))
        #expect(
            try EnqueueRequest.violations(Wire.bytes(1, policy)).map(\.field)
                == ["job.retry_policy.initial_delay"])
    }

    @Test(
        arguments: [
            (315_576_000_000, 999_999_999), (-315_576_000_000, -999_999_999), (0, -1),
        ] as [(Int64, Int64)])
    func durationsAtTheEdge(_ seconds: Int64, _ nanos: Int64) throws {
        let time = Wire.number(1, seconds) + Wire.number(2, nanos)
        let request = try EnqueueRequest.clean(Wire.buffer(Wire.bytes(1, Wire.bytes(10, time))))
        #expect(request.job?.delay == .seconds(seconds) + .nanoseconds(nanos))
        // Whatever the decoder lets through the rules must survive.
        var violations: [FieldViolation] = []
        _ = request.job?.validated(path: "job.", now: Samples.at(0), into: &violations)
        #expect(!violations.isEmpty)
    }

    @Test(arguments: [0, 6, 99, -1, Int64(Int32.max)])
    func unknownStates(_ value: Int64) throws {
        #expect(
            try ListJobsRequest.violations(Wire.bytes(10, Wire.number(4, value))).map(\.field)
                == ["filter.states"])
        let packed = Wire.bytes(4, Wire.varint(1) + Wire.varint(UInt64(bitPattern: value)))
        #expect(try ListJobsRequest.violations(Wire.bytes(10, packed)).map(\.field) == ["filter.states"])
    }

    @Test func listsAreBounded() throws {
        let states = Wire.bytes(4, [UInt8](repeating: 1, count: 4 << 20))
        #expect(try ListJobsRequest.violations(Wire.bytes(10, states)).map(\.field) == ["filter.states"])
        let label = Wire.bytes(5, Wire.text(1, "k"))
        let many = Array(repeatElement(label, count: 1000).joined())
        #expect(try ListJobsRequest.clean(Wire.buffer(Wire.bytes(10, many))).filter?.labels.count == 9)
        let watched = Wire.bytes(1, Wire.text(1, "j"))
        #expect(
            try WatchRequest.violations(Array(repeatElement(watched, count: 1001).joined())).map(\.field)
                == ["jobs"])
        let labels = Array(repeatElement(Wire.bytes(15, Wire.text(1, "k")), count: 1000).joined())
        #expect(try EnqueueRequest.clean(Wire.buffer(Wire.bytes(1, labels))).job?.labels.count == 33)
    }

    /// The service refuses them, by the names of their fields.
    @Test func numbersBelowZeroAreKept() throws {
        let watched = Wire.bytes(1, Wire.text(1, "j") + Wire.number(2, -1) + Wire.number(3, -2))
        let request = try WatchRequest.clean(Wire.buffer(watched))
        #expect(request.jobs == [.init(jobID: "j", afterSequence: -1, afterLogLine: -2)])
    }

    /// It is refused while it is read: a cut id could be another job's.
    @Test func anIDThatIsTooLongIsRefused() throws {
        let long = Array("\(Samples.id)".utf8) + [0x9D, 0xFF]
        #expect(try GetJobRequest.violations(Wire.bytes(1, long)).map(\.field) == ["job_id"])
        #expect(
            try EnqueueRequest.violations(Wire.bytes(1, Wire.bytes(6, long))).map(\.field) == ["job.job_id"])
        #expect(
            try WatchRequest.violations(Wire.bytes(1, Wire.bytes(1, long))).map(\.field) == ["jobs[0].job_id"]
        )
    }

    @Test func clientsRefuseWhatTheyDoNotKnow() throws {
        #expect(
            throws: DecodingError.invalid(
                FieldViolation(field: "job", reason: .required, description: "is required"))
        ) {
            try JobResponse.decode(Wire.buffer([]))
        }
        let bytes = Array(JobResponse(job: Samples.record).encode().readableBytesView)
        // The last value of a field holds; fields of a submessage are merged.
        let state = Wire.bytes(1, Wire.number(6, 77))
        #expect(
            throws: DecodingError.invalid(
                FieldViolation(field: "job.state", reason: .unknownValue, description: "is unknown: 77"))
        ) {
            try JobResponse.decode(Wire.buffer(bytes + state))
        }
        let id = Wire.bytes(1, Wire.text(1, "x"))
        #expect(throws: DecodingError.self) { try JobResponse.decode(Wire.buffer(bytes + id)) }
    }

    /// JobState is the only enum to which no value is added: the error names the field and the value.
    @Test func clientsNameAStateThatTheyDoNotKnow() {
        let violation = FieldViolation(
            field: "lifecycle.state", reason: .unknownValue, description: "is unknown: 77")
        let event = Wire.text(1, Samples.id.description) + Wire.number(3, 2) + Wire.number(4, 77)
        #expect(throws: DecodingError.invalid(violation)) {
            try WatchResponse.decode(Wire.buffer(Wire.bytes(2, event)))
        }
    }
}
