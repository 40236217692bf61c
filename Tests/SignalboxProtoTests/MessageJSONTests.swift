import CProtobufC
import CSignalboxProto
import Foundation
import NIOCore
import Support
import Testing

@testable import SignalboxProto

/// The JSON of messages, compared with what Python's protobuf makes of the same bytes (json_cases.py).
@Suite struct MessageJSONTests {
    private struct Case {
        var message: String
        var bytes: ByteBuffer
        var json: NSDictionary
    }

    private static func cases() throws -> [Case] {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "json_cases.jsonl")
        return try Data(contentsOf: path).split(separator: UInt8(ascii: "\n")).map { line in
            let parts = try #require(JSONSerialization.jsonObject(with: Data(line)) as? [String: Any])
            let base64 = try #require(parts["bytes"] as? String)
            let bytes = try #require(Data(base64Encoded: base64))
            return Case(
                message: try #require(parts["message"] as? String), bytes: ByteBuffer(bytes: bytes),
                json: try #require(parts["json"] as? NSDictionary))
        }
    }

    private func json(_ name: String, _ bytes: ByteBuffer) throws -> [String] {
        switch name {
        case "signalbox.v1.GetJobResponse": try GetJobResponse.json(bytes, in: nil)
        case "signalbox.v1.ListJobsResponse": try ListJobsResponse.json(bytes, in: nil)
        case "signalbox.v1.WatchResponse": try WatchResponse.json(bytes, in: nil)
        case "signalbox.v1.EnqueueResponse": try EnqueueResponse.json(bytes, in: nil)
        case "signalbox.v1.EnqueueBatchResponse": try EnqueueBatchResponse.json(bytes, in: nil)
        case "signalbox.v1.ListAttemptsResponse": try ListAttemptsResponse.json(bytes, in: nil)
        case "signalbox.v1.ListLogLinesResponse": try ListLogLinesResponse.json(bytes, in: nil)
        case "signalbox.v1.ListQueuesResponse": try ListQueuesResponse.json(bytes, in: nil)
        case "signalbox.v1.ListNodesResponse": try ListNodesResponse.json(bytes, in: nil)
        case "signalbox.v1.GetUserLimitResponse": try UserLimitResponse.json(bytes, in: nil)
        case "signalbox.v1.GetServerInfoResponse": try GetServerInfoResponse.json(bytes, in: nil)
        // Nothing prints these, but they have types of fields that no response has.
        case "signalbox.v1.EnqueueRequest":
            try unsafe MessageJSON.lines(bytes, signalbox__v1__enqueue_request__unpack, in: nil)
        case "signalbox.v1.ListJobsRequest":
            try unsafe MessageJSON.lines(bytes, signalbox__v1__list_jobs_request__unpack, in: nil)
        case "signalbox.v1.UpdateUserLimitRequest":
            try unsafe MessageJSON.lines(bytes, signalbox__v1__update_user_limit_request__unpack, in: nil)
        default: throw CocoaError(.featureUnsupported)
        }
    }

    @Test func equalsWhatPythonWrites() throws {
        let cases = try Self.cases()
        #expect(cases.count >= 150)
        for item in cases {
            let lines = try json(item.message, item.bytes)
            #expect(lines.count == 1)
            for line in lines {
                #expect(!line.utf8.contains { $0 < 0x20 })
                let value = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? NSDictionary
                #expect(value == item.json, "\(item.message): \(line)")
            }
        }
    }

    @Test func oneFieldIsOneLineForEachMessage() throws {
        let list = ListJobsResponse(jobs: [Samples.record, Samples.record], nextPageToken: "t").encode()
        let job = GetJobResponse(job: Samples.record, includePayload: true).encode()
        let lines = try ListJobsResponse.json(list, in: "jobs")
        #expect(lines.count == 2)
        #expect(lines.allSatisfy { $0.hasPrefix(#"{"id":""#) && $0.hasSuffix("}") })
        #expect(try GetJobResponse.json(job, in: "job").count == 1)
        #expect(try GetJobResponse.json(ByteBuffer(), in: "job") == [])
        #expect(try ListJobsResponse.json(list, in: "next_page_token") == [])
        #expect(try ListJobsResponse.json(list, in: "nothing") == [])
    }

    @Test func unknownFieldsAreLeftOut() throws {
        // Field 99 of type bytes, and field 98 of type varint.
        let bytes = ByteBuffer(bytes: [0x9A, 0x06, 0x01, 0x61, 0x90, 0x06, 0x01])
        #expect(try ListJobsResponse.json(bytes, in: nil) == ["{}"])
    }

    @Test func refusesWhatIsNoMessage() {
        #expect(throws: DecodingError.malformed) {
            try ListJobsResponse.json(ByteBuffer(bytes: [0x0A, 0x7F]), in: nil)
        }
    }

    @Test(arguments: [(Int64(253_402_300_800), Int32(0)), (0, -1), (0, 1_000_000_000)])
    func refusesTimesThatHaveNoText(seconds: Int64, nanos: Int32) {
        let bytes = unsafe MessageArena.pack(signalbox__v1__get_server_info_response__init) {
            message, arena in
            unsafe message.at = arena.make(google__protobuf__timestamp__init) {
                unsafe $0.seconds = seconds
                unsafe $0.nanos = nanos
            }
        }
        #expect(throws: DecodingError.self) { try GetServerInfoResponse.json(bytes, in: nil) }
    }
}
