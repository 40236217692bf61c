import JobModel
import SignalboxProto
import NIOCore
import Support
import TestRandom
import Testing

/// A request that a client of a newer version sends to this server: it has fields that the messages of this version do not
/// have.
@Suite struct UnknownFieldTests {
    /// A message in a request: the numbers of the fields that lead to it, and the path that an error gives it.
    struct Place: Sendable, CustomTestStringConvertible {
        var request: any RequestMessage.Type
        var numbers: [UInt64] = []
        var path = ""

        init(_ request: any RequestMessage.Type, _ numbers: [UInt64] = [], _ path: String = "") {
            self.request = request
            self.numbers = numbers
            self.path = path
        }

        var testDescription: String { "\(request) \(path)" }

        /// A request of nothing but a message at this place with these fields.
        func request(with fields: [UInt8]) -> [UInt8] {
            numbers.reversed().reduce(fields) { Wire.bytes($1, $0) }
        }
    }

    private static func jobs(in request: any RequestMessage.Type, _ name: String) -> [Place] {
        [
            Place(request, [1], "\(name)."),
            Place(request, [1, 9], "\(name).run_at."),
            Place(request, [1, 10], "\(name).delay."),
            Place(request, [1, 12], "\(name).retry_policy."),
            Place(request, [1, 12, 1], "\(name).retry_policy.initial_delay."),
            Place(request, [1, 12, 3], "\(name).retry_policy.max_delay."),
            Place(request, [1, 13], "\(name).timeout."),
            Place(request, [1, 14], "\(name).soft_timeout."),
            Place(request, [1, 15], "\(name).labels[0]."),
        ]
    }

    /// The requests of JobService and AdminService, and the messages in them.
    static let places: [Place] =
        [
            Place(EnqueueRequest.self), Place(EnqueueBatchRequest.self), Place(GetJobRequest.self),
            Place(ListJobsRequest.self), Place(WatchRequest.self), Place(CancelRequest.self),
            Place(RetryRequest.self), Place(GetQueueRequest.self), Place(ListQueuesRequest.self),
            Place(ListNodesRequest.self), Place(ListAttemptsRequest.self), Place(ListLogLinesRequest.self),
            Place(PauseQueueRequest.self), Place(ResumeQueueRequest.self),
            Place(UpdateUserLimitRequest.self), Place(UpdateUserLimitRequest.self, [1], "limit."),
            Place(UpdateUserLimitRequest.self, [2], "update_mask."), Place(ListUserLimitsRequest.self),
            Place(GetUserLimitRequest.self), Place(ListJobsRequest.self, [10], "filter."),
            Place(ListJobsRequest.self, [10, 5], "filter.labels[0]."),
            Place(ListJobsRequest.self, [10, 6], "filter.created_from."),
            Place(ListJobsRequest.self, [10, 7], "filter.created_to."),
            Place(WatchRequest.self, [1], "jobs[0]."), Place(WatchRequest.self, [5], "filter."),
        ] + jobs(in: EnqueueRequest.self, "job") + jobs(in: EnqueueBatchRequest.self, "jobs[0]")

    /// A field with a random value of a random wire type.
    private static func field(_ number: UInt64, _ random: inout SeededRandom) -> [UInt8] {
        let bytes = (0..<Int.random(in: 0...20, using: &random)).map { _ in
            UInt8.random(in: 0...255, using: &random)
        }
        return switch Int.random(in: 0...3, using: &random) {
        case 0: Wire.number(number, Int64.random(in: .min ... .max, using: &random))
        case 1: Wire.varint(number << 3 | 1) + [UInt8](repeating: 7, count: 8)
        case 2: Wire.varint(number << 3 | 5) + [UInt8](repeating: 7, count: 4)
        default: Wire.bytes(number, bytes)
        }
    }

    /// The names of the fields that are refused.
    private static func refused(_ request: any RequestMessage.Type, _ bytes: [UInt8]) throws -> [String] {
        do {
            _ = try request.violations(bytes)
            return []
        } catch let error as DecodingError {
            guard case .unknownFields(let violations) = error else { throw error }
            #expect(violations.allSatisfy { $0.description == "is not known to this server" })
            return violations.map(\.field)
        }
    }

    @Test(arguments: places)
    func areRefusedAtEveryDepth(_ place: Place) throws {
        #expect(try Self.refused(place.request, place.request(with: [])) == [])
        var random = SeededRandom(seed: 11)
        for _ in 0..<200 {
            let number = UInt64.random(in: 30..<(1 << 29), using: &random)
            let bytes = place.request(with: Self.field(number, &random))
            #expect(try Self.refused(place.request, bytes) == ["\(place.path)<field \(number)>"])
        }
    }

    @Test func areNamedWithTheIndexOfTheirEntry() throws {
        let good = Wire.bytes(1, Wire.text(1, "k"))
        let new = Wire.bytes(1, Wire.text(1, "k") + Wire.number(30, 1))
        #expect(
            try Self.refused(EnqueueBatchRequest.self, good + good + new + good + new)
                == ["jobs[2].<field 30>", "jobs[4].<field 30>"])
        let label = Wire.bytes(15, Wire.text(1, "k"))
        let job = Wire.bytes(1, label + Wire.text(1, "k") + label + Wire.bytes(15, Wire.number(3, 1)))
        #expect(try Self.refused(EnqueueRequest.self, job) == ["job.labels[2].<field 3>"])
    }

    @Test func aFieldThatIsGivenOftenIsNamedOnce() throws {
        let fields = Array(repeatElement(Wire.number(77, 1), count: 1000).joined()) + Wire.number(78, 1)
        #expect(try Self.refused(GetJobRequest.self, fields) == ["<field 77>", "<field 78>"])
    }

    @Test func atMostTwentyAreNamed() throws {
        let fields = (100..<200).flatMap { Wire.number($0, 1) }
        #expect(try Self.refused(GetJobRequest.self, fields) == (100..<120).map { "<field \($0)>" })
        let job = Wire.bytes(1, Wire.text(1, "speech/make") + Wire.text(2, "ada") + Wire.number(30, 1))
        #expect(
            try Self.refused(EnqueueBatchRequest.self, Array(repeatElement(job, count: 1000).joined()))
                == (0..<20).map { "jobs[\($0)].<field 30>" })
        // The request is read again for each name, so only one is named in a large request.
        #expect(
            try Self.refused(EnqueueBatchRequest.self, Array(repeatElement(job, count: 10_000).joined()))
                == ["jobs[0].<field 30>"])
    }

    /// protobuf-c merges the two messages, and forgets the unknown fields of the first.
    @Test func areFoundInBothPartsOfAMessageThatIsGivenTwice() throws {
        let first = Wire.bytes(10, Wire.bytes(6, Wire.number(1, 5) + Wire.number(30, 1)))
        let second = Wire.bytes(10, Wire.bytes(6, Wire.number(2, 7)))
        #expect(try Self.refused(ListJobsRequest.self, first + second) == ["filter.created_from.<field 30>"])
        #expect(try Self.refused(ListJobsRequest.self, first + first) == ["filter.created_from.<field 30>"])
    }

    /// The last value of a field that is given twice holds.
    @Test func knownFieldsMayBeGivenTwice() throws {
        let job = try GetJobRequest.clean(Wire.buffer(Wire.text(1, "a") + Wire.text(1, "b")))
        #expect(job.jobID == "b")
        let times = Wire.bytes(6, Wire.number(1, 5)) + Wire.bytes(6, Wire.number(1, 6) + Wire.number(2, 7000))
        #expect(
            try ListJobsRequest.clean(Wire.buffer(Wire.bytes(10, times))).filter?.createdFrom
                == Samples.at(6, 7))
        let due = Wire.bytes(1, Wire.bytes(9, Wire.number(1, 5)) + Wire.bytes(10, Wire.number(1, 6)))
        let spec = try EnqueueRequest.clean(Wire.buffer(due)).job
        #expect(spec?.runAt == nil && spec?.delay == .seconds(6))
    }

    /// Each known field of a request with each other wire type.
    @Test(
        arguments: [
            (EnqueueRequest.self, 1, 2), (EnqueueBatchRequest.self, 1, 2), (GetJobRequest.self, 1, 2),
            (GetJobRequest.self, 2, 0), (ListJobsRequest.self, 10, 2), (ListJobsRequest.self, 8, 0),
            (WatchRequest.self, 1, 2), (WatchRequest.self, 4, 0), (CancelRequest.self, 3, 0),
            (UpdateUserLimitRequest.self, 1, 2), (UpdateUserLimitRequest.self, 2, 2),
        ] as [(any RequestMessage.Type, UInt64, UInt64)])
    func anotherWireTypeIsMalformed(_ request: any RequestMessage.Type, _ number: UInt64, _ type: UInt64) {
        let values: [(UInt64, [UInt8])] = [
            (0, [1]), (1, [1, 0, 0, 0, 0, 0, 0, 0]), (2, [2, 8, 1]), (5, [1, 0, 0, 0]),
        ]
        for (other, value) in values where other != type {
            #expect(throws: DecodingError.malformed, "wire type \(other)") {
                try request.violations(Wire.varint(number << 3 | other) + value)
            }
        }
    }

    @Test func areMalformedWhenTheyAreCutShort() {
        for bytes in [[0xF8, 0x06], [0xFA, 0x06, 5, 1], [0xFD, 0x06, 1], [0xF9, 0x06, 1], [0xFB, 0x06]] {
            #expect(throws: DecodingError.malformed) {
                try GetJobRequest.violations(bytes.map { UInt8($0) })
            }
        }
    }

    /// The services that others define keep protobuf's rule, and so do clients: a newer server's response may say more.
    @Test func arePassedOverElsewhere() throws {
        let unknown = Wire.text(100, "x") + Wire.number(101, -1)
        let health = try HealthCheckRequest.clean(Wire.buffer(unknown + Wire.text(1, "s") + unknown))
        #expect(health == HealthCheckRequest(service: "s"))
        let reflection = try ServerReflectionRequest.clean(Wire.buffer(unknown + Wire.text(1, "h")))
        #expect(reflection.host == "h")
        let enqueued = EnqueueBatchResponse(jobs: [
            .init(jobID: Samples.id, created: true, disposition: .created, sequence: 1)
        ])
        let bytes = Array(enqueued.encode().readableBytesView)
        #expect(try EnqueueBatchResponse.decode(Wire.buffer(unknown + bytes + unknown)) == enqueued)
    }
}
