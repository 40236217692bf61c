import NIOCore
import GRPC
import Synchronization
import Testing

/// Responses that are pulled from a source after their handler has returned.
@Suite(.timeLimit(.minutes(3))) struct ServerStreamTests {
    /// Says what it was told to, step by step, and waits when there is nothing.
    private final class Script: ResponseSource {
        private struct State {
            var steps: [ResponseStep]
            var asked = 0
            var isWaiting = false
            var wake: (@Sendable () -> Void)?
        }

        private let state: Mutex<State>
        /// Say the last step for ever.
        private let repeats: Bool
        let waits = Signal<Void>()
        let closed = Signal<Int>()

        init(_ steps: [ResponseStep] = [], repeats: Bool = false) {
            state = Mutex(State(steps: steps))
            self.repeats = repeats
        }

        func add(_ step: ResponseStep) {
            let wake = state.withLock { state -> (@Sendable () -> Void)? in
                state.steps.append(step)
                guard state.isWaiting else { return nil }
                state.isWaiting = false
                return state.wake
            }
            wake?()
        }

        func onReady(_ wake: @escaping @Sendable () -> Void) { state.withLock { $0.wake = wake } }

        func next() -> ResponseStep {
            let step = state.withLock { state -> ResponseStep in
                guard let first = state.steps.first else {
                    state.isWaiting = true
                    return .wait
                }
                state.asked += 1
                if !repeats { state.steps.removeFirst() }
                return first
            }
            if case .wait = step { waits.send(()) }
            return step
        }

        func close() { closed.send(state.withLock(\.asked)) }
    }

    private func message(_ number: Int) -> ByteBuffer { ByteBuffer(integer: number) }

    private func following(_ script: Script) -> GRPC.Method {
        GRPC.Method(
            "/t/Follow",
            .serverStream { request, _, responses in
                .work {
                    try await responses.write(request)
                    return script
                }
            })
    }

    @Test func theHandlersMessagesThenTheSources() async throws {
        let worked = Signal<Void>()
        let script = Script([
            .message(message(1)), .message(message(2)), .work { worked.send(()) }, .message(message(3)),
        ])
        try await withServer([following(script)]) { _, client in
            var answers = try await client.serverStreaming("/t/Follow", message(0)).makeAsyncIterator()
            for number in 0...3 { #expect(try await answers.next() == message(number)) }
            try await worked.wait()
            try await script.waits.wait()
            for number in 4..<100 {
                script.add(.message(message(number)))
                #expect(try await answers.next() == message(number))
            }
            script.add(.end(nil))
            #expect(try await answers.next() == nil)
            _ = try await script.closed.wait()
        }
    }

    @Test func itsStatusEndsTheCall() async throws {
        try await withServer([following(Script([.end(Status(.aborted, "enough"))]))]) { _, client in
            let status = try await status {
                for try await _ in try await client.serverStreaming("/t/Follow", message(0)) {}
            }
            #expect(status.code == .aborted && status.message == "enough")
        }
    }

    @Test func failedWorkEndsTheCall() async throws {
        let script = Script([.work { throw Status(.dataLoss, "gone") }, .message(message(1))])
        try await withServer([following(script)]) { _, client in
            let status = try await status {
                for try await _ in try await client.serverStreaming("/t/Follow", message(0)) {}
            }
            #expect(status.code == .dataLoss)
            #expect(try await script.closed.wait() == 1)
        }
    }

    @Test func cancelledCallClosesTheSource() async throws {
        let script = Script()
        try await withServer([following(script)]) { _, client in
            let call = try await client.serverStreaming("/t/Follow", message(0))
            var answers = call.makeAsyncIterator()
            _ = try await answers.next()
            try await script.waits.wait()
            call.cancel()
            _ = try await script.closed.wait()
            // Woken too late: nothing happens.
            script.add(.message(message(1)))
        }
    }

    @Test func cancelledCallCancelsTheWork() async throws {
        let (began, cancelled) = (Signal<Void>(), Signal<Void>())
        let script = Script([
            .work { try await hang(began, cancelled) }
        ])
        try await withServer([following(script)]) { _, client in
            let call = try await client.serverStreaming("/t/Follow", message(0))
            var answers = call.makeAsyncIterator()
            _ = try await answers.next()
            try await began.wait()
            call.cancel()
            try await cancelled.wait()
            _ = try await script.closed.wait()
        }
    }

    /// Late enough for the handler to have returned, on a machine that is busy.
    @Test func deadlineClosesTheSource() async throws {
        let script = Script()
        try await withServer([following(script)]) { _, client in
            let status = try await status {
                let call = try await client.serverStreaming(
                    "/t/Follow", message(0), timeout: .seconds(5))
                for try await _ in call {}
            }
            #expect(status.code == .deadlineExceeded)
            _ = try await script.closed.wait()
        }
    }

    @Test func slowReaderHoldsTheSourceBack() async throws {
        let script = Script([.message(ByteBuffer(repeating: 0, count: 10_000))], repeats: true)
        let echo = GRPC.Method.unary("/t/Echo") { message, _ in message }
        try await withServer([following(script), echo]) { _, client in
            let call = try await client.serverStreaming("/t/Follow", message(0))
            var answers = call.makeAsyncIterator()
            for _ in 0..<200 { _ = try await answers.next() }
            // It stands still on its window; other calls go through.
            for _ in 0..<100 { _ = try await client.unary("/t/Echo", ByteBuffer()) }
            call.cancel()
            // What was read, the client's window, the queue, and one message more.
            #expect(try await script.closed.wait() < 200 + (256 + 16 + 64) * 1024 / 10_000 + 30)
        }
    }

    /// Another call's answers are not read, and fill what the connection may queue.
    @Test func aFullConnectionDoesNotSilenceAnIdleSource() async throws {
        let flood = Script([.message(ByteBuffer(repeating: 0, count: 10_000))], repeats: true)
        let idle = Script()
        let methods: [GRPC.Method] = [
            following(idle), GRPC.Method("/t/Flood", .serverStream { _, _, _ in .source(flood) }),
        ]
        try await withServer(methods, configure: { $0.outboundBytesPerConnection = 1_000 }) { _, client in
            let call = try await client.serverStreaming("/t/Follow", message(0))
            var answers = call.makeAsyncIterator()
            _ = try await answers.next()
            try await idle.waits.wait()
            let unread = try await client.serverStreaming("/t/Flood", ByteBuffer())
            var first = unread.makeAsyncIterator()
            _ = try await first.next()
            for number in 1...20 {
                idle.add(.message(message(number)))
                #expect(try await answers.next() == message(number))
            }
            unread.cancel()
            call.cancel()
        }
    }
}
