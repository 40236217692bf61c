import HTTP2
import NIOCore
import Synchronization
import Testing

@testable import GRPC

/// Connections without an admitted call, and calls without credentials, on a server and its sockets.
@Suite(.timeLimit(.minutes(2))) struct UnadmittedTests {
    /// Lets in whoever says "good", and everybody to "/t/Open…".
    private struct Gate: Admission {
        let callersMayEnd = false

        final class Caller: Admitted {
            let isValid = true
            let name: String
            let isAnonymous: Bool

            init(name: String, isAnonymous: Bool) {
                self.name = name
                self.isAnonymous = isAnonymous
            }
        }

        func admit(_ request: AdmissionRequest) -> AdmissionAnswer {
            if request.path.hasPrefix("/t/Open") { return .admitted(Caller(name: "", isAnonymous: true)) }
            guard let authorization = request.authorization else {
                return .refused(AdmissionRefusal(Status(.unauthenticated, "who?"), reason: "nobody"))
            }
            return .later {
                guard authorization == "good" else {
                    throw AdmissionRefusal(
                        Status(.permissionDenied, "not you"), reason: "bad", caller: "mallory")
                }
                return Caller(name: "ada", isAnonymous: false)
            }
        }
    }

    private final class Heard: RefusalObserver {
        private let all = Mutex<[Refusal]>([])

        func refused(_ refusal: Refusal) { all.withLock { $0.append(refusal) } }

        func count(_ kind: Refusal.Kind, _ reason: String) -> Int {
            all.withLock { $0.count { $0.kind == kind && $0.reason == reason } }
        }

        var calls: [Refusal] { all.withLock { $0.filter { $0.kind == .call } } }
    }

    private static let good: Metadata = ["authorization": "good"]

    private static var methods: [GRPC.Method] {
        [
            GRPC.Method("/t/OpenCheck", .unary { bytes, _, _ in .message(bytes) }),
            .bidirectional("/t/OpenWatch") { requests, _, writer in
                for try await request in requests { try await writer.write(request) }
            },
            .unary("/t/Call") { bytes, _ in bytes },
            .unary("/t/Refuse") { _, _ in throw Status(.invalidArgument, "no") },
        ]
    }

    private func withGate(
        _ configure: (inout ServerConfiguration) -> Void = { _ in },
        _ body: (Server, Client, Heard) async throws -> Void
    ) async throws {
        let heard = Heard()
        try await withServer(
            Self.methods,
            configure: {
                $0.admission = Gate()
                $0.refusals = heard
                configure(&$0)
            }
        ) { server, client in try await body(server, client, heard) }
    }

    private func connect(to server: Server) async throws -> Client {
        try await Client.connect(host: "127.0.0.1", port: server.port ?? 0, logger: quiet)
    }

    /// Opens a watch, which has answered.
    private func watch(_ client: Client) async throws -> ClientCall {
        let call = try await client.bidirectional("/t/OpenWatch")
        try await call.write(ByteBuffer(string: "a"))
        var answers = call.responses.makeAsyncIterator()
        #expect(try await answers.next() != nil)
        return call
    }

    @Test func whoIsNotAdmittedHasFewOpenCalls() async throws {
        try await withGate {
            $0.anonymousCallsPerConnectionMax = 3
        } _: { _, client, heard in
            var open: [ClientCall] = []
            for _ in 0..<3 { open.append(try await watch(client)) }
            let code = try await status { _ = try await watch(client) }.code
            #expect(code == .resourceExhausted)
            #expect(heard.count(.call, "resourceExhausted") == 1)
            // What is answered at once is answered.
            let answer = try await client.unary("/t/OpenCheck", ByteBuffer(string: "b"))
            #expect(answer == ByteBuffer(string: "b"))
            _ = try await client.unary("/t/Call", ByteBuffer(), metadata: Self.good)
            for _ in 0..<5 { open.append(try await watch(client)) }
        }
    }

    /// Requests that do not come to their end hold as much.
    @Test func callsWithoutTheirMessageCountToo() async throws {
        try await withGate {
            $0.anonymousCallsPerConnectionMax = 2
        } _: { _, client, heard in
            var calls: [ClientCall] = []
            // One more than are counted may always be open.
            for _ in 0..<4 { calls.append(try await client.bidirectional("/t/OpenCheck")) }
            let last = try #require(calls.last)
            let code = try await status { for try await _ in last.responses {} }.code
            #expect(code == .resourceExhausted)
            #expect(heard.calls.map(\.method) == ["/t/OpenCheck"])
        }
    }

    @Test func refusalsAreObserved() async throws {
        try await withGate { _, client, heard in
            for (path, metadata) in [
                ("/t/Call", [:]), ("/t/Call", ["authorization": "secret"]), ("/t/None", Self.good),
                ("/t/Refuse", Self.good),
            ] as [(String, Metadata)] {
                let code = try await status {
                    _ = try await client.unary(path, ByteBuffer(), metadata: metadata)
                }.code
                #expect(code != .ok)
            }
            let (call, source) = (Refusal.Kind.call, "127.0.0.1")
            #expect(
                heard.calls == [
                    Refusal(kind: call, reason: "nobody", method: "/t/Call", source: source),
                    Refusal(kind: call, reason: "bad", method: "/t/Call", source: source, caller: "mallory"),
                    Refusal(kind: call, reason: "unimplemented", source: source),
                    Refusal(
                        kind: call, reason: "invalidArgument", method: "/t/Refuse", source: source,
                        caller: "ada"),
                ])
        }
    }

    @Test func idleConnectionsDoNotKeepOthersOut() async throws {
        try await withGate {
            $0.connectionsMax = 16
        } _: { server, client, heard in
            _ = try await client.unary("/t/Call", ByteBuffer(), metadata: Self.good)
            var idle: [Client] = []
            for round in 0..<30 {
                // Without a call, with refused ones, with ones that need no credentials.
                let other = try await connect(to: server)
                if round % 3 == 1 {
                    _ = try await status { _ = try await other.unary("/t/Call", ByteBuffer()) }
                } else if round % 3 == 2 {
                    _ = try await other.unary("/t/OpenCheck", ByteBuffer())
                }
                idle.append(other)
            }
            let honest = try await connect(to: server)
            _ = try await honest.unary("/t/Call", ByteBuffer(), metadata: Self.good)
            _ = try await client.unary("/t/Call", ByteBuffer(), metadata: Self.good)
            // Eight connections may be unadmitted, and the first of the honest client was one of them.
            #expect(heard.count(.connection, "evicted") == 31 - 8)
            for other in idle + [honest] { await other.close() }
        }
    }

    /// Refused calls do not keep a connection from its idle timeout, however many there are.
    @Test(arguments: [
        ("/t/None", nil, false, false), ("/t/Call", nil, false, false), ("/t/Call", "bad", false, false),
        ("/t/Call", "good", true, true), ("/t/OpenCheck", nil, true, false),
    ])
    func onlyCallsThatWereLetInAreUse(
        _ path: String, _ authorization: String?, isUse: Bool, isAdmitted: Bool
    ) throws {
        var configuration = ServerConfiguration()
        configuration.admission = Gate()
        let peer = try EmbeddedPeer(Self.methods, configuration: configuration)
        let stream = try peer.request(
            path, ByteBuffer(bytes: [0, 0, 0, 0, 0]), isWhole: true, authorization: authorization)
        try peer.pass(.zero)
        #expect(peer.hasEnded(stream.id))
        #expect(peer.connection.machine.hasAcceptedCall == isUse)
        #expect(peer.connection.machine.isAdmitted == isAdmitted)
    }

    @Test func withoutAuthenticationTheFirstCallAdmits() throws {
        let peer = try EmbeddedPeer(Self.methods)
        #expect(!peer.connection.machine.isAdmitted)
        _ = try peer.request("/t/OpenCheck", ByteBuffer(bytes: [0, 0, 0, 0, 0]), isWhole: true)
        #expect(peer.connection.machine.isAdmitted)
    }
}
