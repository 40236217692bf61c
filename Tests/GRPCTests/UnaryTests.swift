import NIOCore
import GRPC
import Testing

/// Calls whose handler is no task: answered at once, by a task of its choice, or later, from anywhere.
@Suite(.timeLimit(.minutes(3))) struct UnaryTests {
    /// A call that its handler has left open.
    private struct OpenCall: Sendable {
        let message: ByteBuffer
        let reply: Reply
    }

    private struct Secret: Error {}

    private let echo = GRPC.Method("/t/Echo", .unary { message, _, _ in .message(message) })

    private func later(_ calls: Signal<OpenCall>) -> GRPC.Method {
        GRPC.Method(
            "/t/Later",
            .unary { message, _, reply in
                calls.send(OpenCall(message: message, reply: reply))
                return .later
            })
    }

    @Test(arguments: [0, 1, 70_000]) func answersAtOnce(_ count: Int) async throws {
        try await expectEcho(echo, count)
    }

    @Test func answersLaterFromAnotherThread() async throws {
        let calls = Signal<OpenCall>()
        try await withServer([later(calls)]) { _, client in
            let answer = Task { try await client.unary("/t/Later", ByteBuffer(bytes: [1])) }
            let call = try await calls.wait()
            #expect(call.message == ByteBuffer(bytes: [1]))
            call.reply.send { ByteBuffer(bytes: [2]) }
            #expect(try await answer.value == ByteBuffer(bytes: [2]))
        }
    }

    @Test func mayReplyBeforeItReturns() async throws {
        let early = GRPC.Method(
            "/t/Early",
            .unary { message, _, reply in
                reply.send { message }
                return .later
            })
        try await withServer([early]) { _, client in
            let answer = try await client.unary("/t/Early", ByteBuffer(bytes: [1]))
            #expect(answer == ByteBuffer(bytes: [1]))
        }
    }

    /// As from a commit that many calls share.
    @Test func manyRepliesFromOneThread() async throws {
        let calls = Signal<OpenCall>()
        try await withServer([later(calls)]) { _, client in
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<300 {
                    group.addTask {
                        let message = ByteBuffer(integer: number)
                        return try await client.unary("/t/Later", message) == message
                    }
                }
                var open: [OpenCall] = []
                while open.count < 300 { open.append(try await calls.wait()) }
                for call in open { call.reply.send { call.message } }
                for try await isEqual in group { #expect(isEqual) }
            }
        }
    }

    // MARK: Work

    @Test func worksInATask() async throws {
        let work = GRPC.Method(
            "/t/Work",
            .unary { message, _, _ in
                .work {
                    await Task.yield()
                    guard message.readableBytes > 0 else { throw Status(.notFound, "nothing") }
                    return message
                }
            })
        try await withServer([work]) { _, client in
            let answer = try await client.unary("/t/Work", ByteBuffer(bytes: [1]))
            #expect(answer == ByteBuffer(bytes: [1]))
            let failed = try await status { _ = try await client.unary("/t/Work", ByteBuffer()) }
            #expect(failed == Status(.notFound, "nothing"))
        }
    }

    @Test func cancelledCallCancelsItsWork() async throws {
        let (began, cancelled) = (Signal<Void>(), Signal<Void>())
        let hanging = GRPC.Method(
            "/t/Hang",
            .unary { message, _, _ in
                .work {
                    try await hang(began, cancelled)
                    return message
                }
            })
        try await withServer([hanging]) { _, client in
            let call = Task { try await client.unary("/t/Hang", ByteBuffer()) }
            try await began.wait()
            call.cancel()
            try await cancelled.wait()
            _ = await call.result
        }
    }

    // MARK: Errors

    @Test func whatTheHandlerThrowsIsTheAnswer() async throws {
        let fail = GRPC.Method(
            "/t/Fail",
            .unary { message, _, _ in
                if message.readableBytes == 0 { throw Secret() }
                throw Status(.notFound, "no é", details: [1, 2])
            })
        try await withServer([fail, echo]) { _, client in
            let failed = try await status { _ = try await client.unary("/t/Fail", ByteBuffer(bytes: [1])) }
            #expect(failed == Status(.notFound, "no é", details: [1, 2]))
            let secret = try await status { _ = try await client.unary("/t/Fail", ByteBuffer()) }
            #expect(secret == Status(.unknown, "unknown error"))
            let answer = try await client.unary("/t/Echo", ByteBuffer(bytes: [1]))
            #expect(answer == ByteBuffer(bytes: [1]))
        }
    }

    @Test func whatTheAnswerThrowsIsTheAnswer() async throws {
        let calls = Signal<OpenCall>()
        let cases: [(any Error, Status)] = [
            (Status(.aborted, "gone"), Status(.aborted, "gone")),
            (Secret(), Status(.unknown, "unknown error")),
        ]
        try await withServer([later(calls)]) { _, client in
            for (error, expected) in cases {
                let answer = Task { try await client.unary("/t/Later", ByteBuffer()) }
                let call = try await calls.wait()
                call.reply.send { throw error }
                let failed = try await status { _ = try await answer.value }
                #expect(failed == expected)
            }
        }
    }

    // MARK: Calls that end before the reply

    /// Until it has replied the handler counts, and so do the bytes of its request: who resets calls gets no more of
    /// them at once than one who waits.
    @Test func replyToACallThatWasReset() async throws {
        let calls = Signal<OpenCall>()
        try await withServer(
            [later(calls), echo],
            configure: {
                $0.streamsPerConnectionMax = 1
                $0.requestBytesPerConnection = 100_000
            }
        ) { server, client in
            let message = ByteBuffer(repeating: 1, count: 60_000)
            let answer = Task { try await client.unary("/t/Later", message) }
            let call = try await calls.wait()
            answer.cancel()
            _ = await answer.result
            let refused = try await status { _ = try await client.unary("/t/Echo", ByteBuffer()) }
            #expect(refused.code == .unavailable)

            // The loop takes replies in order, whichever connection they are for: with this one answered, the first
            // is dropped.
            let other = try await Client.connect(host: "127.0.0.1", port: server.port ?? 0, logger: quiet)
            let second = Task { try await other.unary("/t/Later", ByteBuffer()) }
            let behind = try await calls.wait()
            call.reply.send {
                Issue.record("a reply to a call that is over")
                return ByteBuffer()
            }
            behind.reply.send { behind.message }
            _ = try await second.value
            await other.close()

            let echoed = try await client.unary("/t/Echo", message)
            #expect(echoed == message)
            // Nothing is left that it would wait for.
            await server.shutdown(grace: .seconds(600))
        }
    }

    @Test func shutdownWaitsForTheReplyToALostConnection() async throws {
        let calls = Signal<OpenCall>()
        try await withServer([later(calls)]) { server, client in
            let answer = Task { try await client.unary("/t/Later", ByteBuffer()) }
            let call = try await calls.wait()
            await client.close()
            let lost = try await status { _ = try await answer.value }
            #expect(lost.code == .unavailable)
            async let stopped: Void = server.shutdown(grace: .seconds(600))
            call.reply.send { call.message }
            await stopped
        }
    }
}
