import HTTP2
import NIOCore
import Synchronization
import Testing

@testable import GRPC

@Suite struct InterceptorTests {
    private struct Ended: Equatable {
        var method: String?
        var code: Status.Code
        var caller: String?
        var requests: [Int]
        var responses: [Int]
    }

    /// Notes the calls that it sees.
    private final class Notes: ServerInterceptor {
        private struct State {
            var open: Set<ObjectIdentifier> = []
            var ended: [Ended] = []
            var peers: [String] = []
        }

        private let state = Mutex(State())

        func callStarted(_ call: CallRecord) {
            state.withLock { state in
                let isNew = state.open.insert(ObjectIdentifier(call)).inserted
                #expect(isNew)
                state.peers.append(call.peer.address)
            }
        }

        func callEnded(_ call: CallRecord, _ status: Status) {
            state.withLock { state in
                let wasOpen = state.open.remove(ObjectIdentifier(call)) != nil
                #expect(wasOpen)
                state.ended.append(
                    Ended(
                        method: call.method, code: status.code, caller: call.admitted?.name,
                        requests: [call.requestMessages, call.requestBytes],
                        responses: [call.responseMessages, call.responseBytes]))
            }
        }

        var open: Int { state.withLock(\.open.count) }
        var ended: [Ended] { state.withLock(\.ended) }
        var peers: [String] { state.withLock(\.peers) }
    }

    private final class Order: ServerInterceptor {
        let name: String
        let log: Log

        final class Log: Sendable {
            let lines = Mutex<[String]>([])
        }

        init(_ name: String, _ log: Log) {
            self.name = name
            self.log = log
        }

        func callStarted(_ call: CallRecord) { log.lines.withLock { $0.append("start \(name)") } }
        func callEnded(_ call: CallRecord, _ status: Status) {
            log.lines.withLock { $0.append("end \(name)") }
        }
    }

    private struct Gate: Admission {
        let callersMayEnd = false

        final class Caller: Admitted {
            let isValid = true
            let name = "ada"
            let isAnonymous = false
        }

        func admit(_ request: AdmissionRequest) -> AdmissionAnswer {
            request.authorization == nil
                ? .refused(AdmissionRefusal(Status(.unauthenticated, "who?"), reason: "unauthenticated"))
                : .admitted(Caller())
        }
    }

    private static let echo = Method("/t/Echo", .unary { message, _, _ in .message(message) })
    private static let fail = Method("/t/Fail", .unary { _, _, _ in throw Status(.aborted, "no") })
    private static let open = Method("/t/Open", .unary { _, _, _ in .later })

    private func framed(_ count: Int) -> ByteBuffer {
        var bytes = ByteBuffer(bytes: [0])
        bytes.writeInteger(UInt32(count))
        bytes.writeRepeatingByte(1, count: count)
        return bytes
    }

    private func peer(_ notes: Notes, admission: (any Admission)? = nil) throws -> EmbeddedPeer {
        var configuration = ServerConfiguration()
        configuration.interceptors = [notes]
        configuration.admission = admission
        return try EmbeddedPeer([Self.echo, Self.fail, Self.open], configuration: configuration)
    }

    @Test func startInOrderAndEndInReverse() throws {
        let log = Order.Log()
        var configuration = ServerConfiguration()
        configuration.interceptors = [Order("a", log), Order("b", log)]
        let peer = try EmbeddedPeer([Self.echo], configuration: configuration)
        _ = try peer.request("/t/Echo", framed(1), isWhole: true)
        #expect(log.lines.withLock { $0 } == ["start a", "start b", "end b", "end a"])
    }

    @Test func answeredCall() throws {
        let notes = Notes()
        _ = try peer(notes).request("/t/Echo", framed(3), isWhole: true)
        #expect(
            notes.ended == [
                Ended(method: "/t/Echo", code: .ok, caller: nil, requests: [1, 3], responses: [1, 3])
            ])
    }

    @Test func failedAndUnknownCalls() throws {
        let notes = Notes()
        let peer = try peer(notes)
        _ = try peer.request("/t/Fail", framed(3), isWhole: true)
        _ = try peer.request("/t/None", framed(3), isWhole: true)
        #expect(
            notes.ended == [
                Ended(method: "/t/Fail", code: .aborted, caller: nil, requests: [1, 3], responses: [0, 0]),
                Ended(method: nil, code: .unimplemented, caller: nil, requests: [0, 0], responses: [0, 0]),
            ])
    }

    @Test func admittedAndRefusedCalls() throws {
        let notes = Notes()
        let peer = try peer(notes, admission: Gate())
        _ = try peer.request("/t/Echo", framed(0), isWhole: true)
        _ = try peer.request("/t/Echo", framed(0), isWhole: true, authorization: "me")
        #expect(
            notes.ended == [
                Ended(
                    method: "/t/Echo", code: .unauthenticated, caller: nil, requests: [0, 0],
                    responses: [0, 0]),
                Ended(method: "/t/Echo", code: .ok, caller: "ada", requests: [1, 0], responses: [1, 0]),
            ])
    }

    @Test func resetCallEndsOnce() throws {
        let notes = Notes()
        let peer = try peer(notes)
        let stream = try peer.request("/t/Open", framed(3), isWhole: true)
        #expect(notes.open == 1)
        peer.session.reset(stream, .cancel)
        try peer.send()
        #expect(notes.ended.map(\.code) == [.cancelled])
        #expect(notes.open == 0)
    }

    @Test func lostConnectionEndsItsCallsOnce() throws {
        let notes = Notes()
        let peer = try peer(notes)
        for _ in 0..<3 { _ = try peer.request("/t/Open", framed(3), isWhole: true) }
        #expect(notes.open == 3)
        try peer.channel.close().wait()
        #expect(notes.ended.map(\.code) == [.cancelled, .cancelled, .cancelled])
        #expect(notes.open == 0)
    }

    @Test(.timeLimit(.minutes(3))) func streamingCallEndsWithItsCounts() async throws {
        let notes = Notes()
        let chat = Method.bidirectional("/t/Chat") { requests, _, responses in
            for try await request in requests {
                try await responses.write(request)
                try await responses.write(request)
            }
        }
        try await withServer([chat], configure: { $0.interceptors = [notes] }) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            try await call.write(ByteBuffer(bytes: [1, 2]))
            try await call.write(ByteBuffer(bytes: [3]))
            try await call.finish()
            for try await _ in call.responses {}
            #expect(notes.peers.count == 1 && notes.peers.allSatisfy { $0.hasPrefix("127.0.0.1:") })
            #expect(
                notes.ended == [
                    Ended(method: "/t/Chat", code: .ok, caller: nil, requests: [2, 3], responses: [4, 6])
                ])
        }
    }
}
