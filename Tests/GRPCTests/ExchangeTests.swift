import GRPC
import NIOCore
import Synchronization
import Testing

/// Bidirectional calls without a task.
@Suite(.timeLimit(.minutes(3))) struct ExchangeTests {
    /// Answers each message with itself, once it is ready.
    private final class Echo: MessageExchange {
        private struct State {
            var responses: [ByteBuffer] = []
            var received = 0
            var isReady: Bool
            var hasEnded = false
            var wake: (@Sendable () -> Void)?
        }

        private let state: Mutex<State>
        let ended = Signal<Void>()
        let closed = Signal<Void>()

        init(isReady: Bool = true) {
            state = Mutex(State(isReady: isReady))
        }

        var received: Int { state.withLock(\.received) }

        func makeReady() {
            let wake = state.withLock { state in
                state.isReady = true
                return state.wake
            }
            wake?()
        }

        var isReady: Bool { state.withLock(\.isReady) }

        func receive(_ message: ByteBuffer) {
            state.withLock { state in
                state.received += 1
                state.responses.append(message)
            }
        }

        func receiveEnd() {
            state.withLock { $0.hasEnded = true }
            ended.send(())
        }

        func onReady(_ wake: @escaping @Sendable () -> Void) { state.withLock { $0.wake = wake } }

        func next() -> ResponseStep {
            state.withLock { state in
                if !state.responses.isEmpty { return .message(state.responses.removeFirst()) }
                return state.hasEnded ? .end(nil) : .wait
            }
        }

        func close() { closed.send(()) }
    }

    private final class Count: Sendable {
        let value = Mutex(0)
    }

    private func method(_ exchange: Echo) -> GRPC.Method {
        GRPC.Method("/t/Chat", .bidirectional { _, _, _ in .exchange(exchange) })
    }

    @Test func messagesBothWays() async throws {
        let exchange = Echo()
        try await withServer([method(exchange)]) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            var responses = call.responses.makeAsyncIterator()
            for number in 0..<100 {
                try await call.write(ByteBuffer(integer: number))
                #expect(try await responses.next() == ByteBuffer(integer: number))
            }
            try await call.finish()
            #expect(try await responses.next() == nil)
            _ = try await exchange.closed.wait()
        }
    }

    @Test func manyMessagesThenTheEnd() async throws {
        try await withServer([method(Echo())]) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            for number in 0..<100 { try await call.write(ByteBuffer(integer: number)) }
            try await call.finish()
            var count = 0
            for try await response in call.responses {
                #expect(response == ByteBuffer(integer: count))
                count += 1
            }
            #expect(count == 100)
        }
    }

    /// The client can write no more than its window, and what it may have unsent.
    @Test func exchangeThatIsNotReadyHoldsTheClientBack() async throws {
        let exchange = Echo(isReady: false)
        let (count, bytes) = (64, 64 * 1024)
        try await withServer([method(exchange)]) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            let written = Count()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for _ in 0..<count {
                        try await call.write(ByteBuffer(repeating: 0, count: bytes))
                        written.value.withLock { $0 += 1 }
                    }
                    try await call.finish()
                }
                // Calls that begin later than the writes are served.
                for _ in 0..<20 { _ = try? await client.unary("/t/None", ByteBuffer()) }
                #expect(exchange.received == 0)
                #expect(written.value.withLock { $0 } < count / 2)
                exchange.makeReady()
                var received = 0
                for try await _ in call.responses { received += 1 }
                #expect(received == count)
                try await group.waitForAll()
            }
        }
    }

    @Test func cancelledCallClosesTheExchange() async throws {
        let exchange = Echo()
        try await withServer([method(exchange)]) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            try await call.write(ByteBuffer(integer: 1))
            var responses = call.responses.makeAsyncIterator()
            _ = try await responses.next()
            call.cancel()
            _ = try await exchange.closed.wait()
            // It is woken too late, and nothing happens.
            exchange.makeReady()
        }
    }

    @Test func errorOfTheHandlerEndsTheCall() async throws {
        let method = GRPC.Method("/t/Chat", .bidirectional { _, _, _ in throw Status(.aborted, "no") })
        try await withServer([method]) { _, client in
            let status = try await status {
                for try await _ in try await client.bidirectional("/t/Chat").responses {}
            }
            #expect(status.code == .aborted)
        }
    }

    @Test func brokenRequestEndsTheCall() async throws {
        let exchange = Echo()
        try await withServer([method(exchange)], configure: { $0.messageBytesMax = 10 }) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            try await call.write(ByteBuffer(repeating: 0, count: 11))
            let status = try await status { for try await _ in call.responses {} }
            #expect(status.code == .resourceExhausted)
            _ = try await exchange.closed.wait()
            #expect(exchange.received == 0)
        }
    }
}
