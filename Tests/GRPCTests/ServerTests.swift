import NIOCore
import GRPC
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2))) struct ServerTests {
    private let echo = Method.unary("/t/Echo") { message, _ in message }

    private func hanging(started: Signal<Void>, cancelled: Signal<Void>) -> Method {
        .unary("/t/Hang") { message, _ in
            try await hang(started, cancelled)
            return message
        }
    }

    @Test(arguments: [0, 1, 70_000, 1_000_000]) func unary(_ count: Int) async throws {
        try await expectEcho(echo, count)
    }

    @Test func manyCallsAtOnce() async throws {
        let yielding = Method.unary("/t/Yield") { message, _ in
            await Task.yield()
            return message
        }
        try await withServer([yielding]) { _, client in
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<500 {
                    group.addTask {
                        let message = ByteBuffer(integer: number)
                        return try await client.unary("/t/Yield", message) == message
                    }
                }
                for try await isEqual in group { #expect(isEqual) }
            }
        }
    }

    @Test func statusAndMetadata() async throws {
        let fail = Method.unary("/t/Fail") { _, context in
            var initial = Metadata()
            initial.add(context.metadata["who"] ?? "", for: "hello")
            context.setInitialMetadata(initial)
            throw Status(.notFound, "no é", details: [1, 2], metadata: ["more": "yes"])
        }
        try await withServer([fail]) { _, client in
            let status = try await status {
                _ = try await client.unary("/t/Fail", ByteBuffer(), metadata: ["who": "me"])
            }
            #expect(status.code == .notFound)
            #expect(status.message == "no é")
            #expect(status.details == [1, 2])
            #expect(status.metadata["more"] == "yes")
            #expect(status.metadata["hello"] == "me")
        }
    }

    @Test func otherErrorsLeakNothing() async throws {
        struct Secret: Error {}
        let crash = Method.unary("/t/Crash") { _, _ in throw Secret() }
        try await withServer([crash]) { _, client in
            let status = try await status { _ = try await client.unary("/t/Crash", ByteBuffer()) }
            #expect(status == Status(.unknown, "unknown error"))
        }
        try await withServer(
            [crash], configure: { $0.errorMapper = { error, _ in Status(.aborted, "\(error is Secret)") } }
        ) { _, client in
            let status = try await status { _ = try await client.unary("/t/Crash", ByteBuffer()) }
            #expect(status == Status(.aborted, "true"))
        }
    }

    @Test func unknownMethodAndTooLarge() async throws {
        let small = Method.unary("/t/Small", maxRequestBytes: 10) { message, _ in message }
        try await withServer([small]) { _, client in
            let unknown = try await status { _ = try await client.unary("/t/None", ByteBuffer()) }
            #expect(unknown.code == .unimplemented)
            let large = try await status {
                _ = try await client.unary("/t/Small", ByteBuffer(repeating: 0, count: 1_000_000))
            }
            #expect(large.code == .resourceExhausted)
            let headers = try await status {
                _ = try await client.unary(
                    "/t/Small", ByteBuffer(), metadata: ["big": String(repeating: "x", count: 9_000)])
            }
            #expect(headers.code == .resourceExhausted)
            #expect(try await client.unary("/t/Small", ByteBuffer(bytes: [1])) == ByteBuffer(bytes: [1]))
        }
    }

    @Test func requestsOfAConnectionHaveABound() async throws {
        let (started, release) = (Signal<Void>(), Signal<Void>())
        let hold = Method.unary("/t/Hold") { message, _ in
            started.send(())
            try await release.wait()
            return message
        }
        try await withServer([hold, echo], configure: { $0.requestBytesPerConnection = 100_000 }) {
            _, client in
            let message = ByteBuffer(repeating: 1, count: 60_000)
            let held = Task { try await client.unary("/t/Hold", message) }
            try await started.wait()
            // It is not half-closed: no handler runs, yet what has come of it counts.
            let open = try await client.bidirectional("/t/Echo")
            try await open.write(message)
            var answers = open.responses.makeAsyncIterator()
            let refused = try await status { _ = try await answers.next() }
            #expect(refused.code == .resourceExhausted)
            release.send(())
            #expect(try await held.value == message)
            #expect(try await client.unary("/t/Echo", message) == message)
        }
    }

    @Test func answersOfAConnectionHaveABound() async throws {
        let grow = Method.unary("/t/Grow") { _, _ in ByteBuffer(repeating: 1, count: 60_000) }
        let stream = Method.serverStreaming("/t/Stream") { _, _, responses in
            try await responses.write(ByteBuffer(repeating: 1, count: 60_000))
        }
        try await withServer([grow, stream, echo], configure: { $0.outboundBytesMax = 50_000 }) { _, client in
            let unary = try await status { _ = try await client.unary("/t/Grow", ByteBuffer()) }
            #expect(unary.code == .resourceExhausted)
            let streamed = try await status {
                for try await _ in try await client.serverStreaming("/t/Stream", ByteBuffer()) {}
            }
            #expect(streamed.code == .resourceExhausted)
            #expect(try await client.unary("/t/Echo", ByteBuffer(bytes: [1])) == ByteBuffer(bytes: [1]))
        }
    }

    /// What fits one by one does so all at once.
    @Test func largePartsOfAnswersNeedAPermit() async throws {
        let large = ByteBuffer(repeating: 1, count: 60_000)
        let making = Crowd(meeting: 3)
        let stream = Method.serverStreaming("/t/Stream") { _, _, responses in
            try await responses.write(withPermit: { nil })
            try await responses.write(withPermit: {
                try await making.stay()
                return large
            })
            do {
                try await responses.write(withPermit: { throw Status(.dataLoss, "none") })
            } catch {
                try await responses.write(large)
            }
        }
        let bound = { (configuration: inout ServerConfiguration) in
            configuration.outboundBytesPerConnection = 100_000
            configuration.outboundBytesMax = 6 * 60_100
            configuration.permitsPerConnection = 3
        }
        try await withServer([stream], configure: bound) { _, client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<50 {
                    group.addTask {
                        for try await message in try await client.serverStreaming("/t/Stream", ByteBuffer()) {
                            #expect(message == large)
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(making.most == 3)
    }

    /// Who is called off while it waits for its turn takes none.
    @Test func callsThatAreOverTakeNoPermit() async throws {
        let (began, ended, release) = (Signal<Void>(), Signal<Void>(), Signal<Void>())
        let hold = Method.serverStreaming("/t/Hold") { _, _, responses in
            try await responses.write(withPermit: {
                began.send(())
                try await release.wait()
                return nil
            })
        }
        let wait = Method.serverStreaming("/t/Wait") { _, _, responses in
            began.send(())
            do {
                try await responses.write(withPermit: {
                    Issue.record("the call is over")
                    return nil
                })
            } catch {
                ended.send(())
            }
        }
        try await withServer([hold, wait, echo], configure: { $0.permitsPerConnection = 1 }) { _, client in
            let holding = try await client.serverStreaming("/t/Hold", ByteBuffer())
            try await began.wait()
            let waiting = try await client.serverStreaming("/t/Wait", ByteBuffer())
            try await began.wait()
            waiting.cancel()
            try await ended.wait()
            release.send(())
            for try await _ in holding {}
            #expect(try await client.unary("/t/Echo", ByteBuffer(bytes: [1])) == ByteBuffer(bytes: [1]))
        }
    }

    /// Late enough for the handler to have begun, on a machine that is busy.
    @Test func deadlineCancelsTheHandler() async throws {
        let (started, cancelled) = (Signal<Void>(), Signal<Void>())
        try await withServer([hanging(started: started, cancelled: cancelled)]) { _, client in
            let status = try await status {
                _ = try await client.unary("/t/Hang", ByteBuffer(), timeout: .seconds(5))
            }
            #expect(status.code == .deadlineExceeded)
            try await cancelled.wait()
        }
    }

    @Test func cancelledClientCancelsTheHandler() async throws {
        let (started, cancelled) = (Signal<Void>(), Signal<Void>())
        try await withServer([hanging(started: started, cancelled: cancelled)]) { _, client in
            let call = Task { try await client.unary("/t/Hang", ByteBuffer()) }
            try await started.wait()
            call.cancel()
            try await cancelled.wait()
            guard case .failure = await call.result else {
                Issue.record("the call succeeded")
                return
            }
        }
    }

    @Test func lostConnectionCancelsTheHandler() async throws {
        let (started, cancelled) = (Signal<Void>(), Signal<Void>())
        try await withServer([hanging(started: started, cancelled: cancelled)]) { server, _ in
            let other = try await Client.connect(host: "127.0.0.1", port: server.port ?? 0, logger: quiet)
            let call = Task { try await other.unary("/t/Hang", ByteBuffer()) }
            try await started.wait()
            await other.close()
            try await cancelled.wait()
            let status = try await status { _ = try await call.value }
            #expect(status.code == .unavailable)
        }
    }

    @Test func unaryCallsOfAConnectionNeedAPermit() async throws {
        let running = Crowd(meeting: 3)
        let busy = Method.unary("/t/Busy") { message, _ in
            try await running.stay()
            return message
        }
        try await withServer([busy], configure: { $0.permitsPerConnection = 3 }) { _, client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<100 {
                    group.addTask {
                        let answer = try await client.unary("/t/Busy", ByteBuffer(integer: number))
                        #expect(answer == ByteBuffer(integer: number))
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(running.most == 3)
    }

    @Test func serverStreaming() async throws {
        let count = Method.serverStreaming("/t/Count") { message, _, responses in
            var message = message
            for number in 0..<(message.readInteger(as: Int.self) ?? 0) {
                try await responses.write(ByteBuffer(integer: number))
            }
        }
        try await withServer([count]) { _, client in
            var next = 0
            for try await message in try await client.serverStreaming("/t/Count", ByteBuffer(integer: 50_000))
            {
                // An expectation for each would take longer than all the rest.
                guard message == ByteBuffer(integer: next) else { break }
                next += 1
            }
            #expect(next == 50_000)
        }
    }

    @Test func slowReaderHoldsTheWriterBack() async throws {
        let (written, ended) = (Signal<Int>(), Signal<Void>())
        let flood = Method.serverStreaming("/t/Flood") { _, _, responses in
            var count = 0
            do {
                while true {
                    try await responses.write(ByteBuffer(repeating: 0, count: 10_000))
                    count += 1
                }
            } catch {
                written.send(count)
                ended.send(())
                throw error
            }
        }
        try await withServer([flood, echo]) { _, client in
            let call = try await client.serverStreaming("/t/Flood", ByteBuffer())
            var iterator = call.makeAsyncIterator()
            _ = try await iterator.next()
            // The flood stands still on its window; other calls go through.
            for _ in 0..<100 { _ = try await client.unary("/t/Echo", ByteBuffer()) }
            call.cancel()
            try await ended.wait()
            // The client's window, the queue, and one message more.
            #expect(try await written.wait() < (256 * 1024 + 16 * 1024 + 64 * 1024) / 10_000 + 3)
        }
    }

    @Test func writerOnAnotherExecutor() async throws {
        let elsewhere = Method.serverStreaming("/t/Elsewhere") { _, _, responses in
            let task = Task.detached {
                for _ in 0..<1_000 { try await responses.write(ByteBuffer(repeating: 1, count: 1_000)) }
            }
            try await task.value
        }
        try await withServer([elsewhere]) { _, client in
            var count = 0
            for try await _ in try await client.serverStreaming("/t/Elsewhere", ByteBuffer()) { count += 1 }
            #expect(count == 1_000)
        }
    }

    @Test func bidirectional() async throws {
        let chat = Method.bidirectional("/t/Chat") { requests, _, responses in
            for try await message in requests { try await responses.write(message) }
        }
        try await withServer([chat]) { _, client in
            let call = try await client.bidirectional("/t/Chat")
            var responses = call.responses.makeAsyncIterator()
            for count in [0, 5, 100_000, 600_000] {
                let message = ByteBuffer(repeating: 9, count: count)
                try await call.write(message)
                #expect(try await responses.next() == message)
            }
            try await call.finish()
            #expect(try await responses.next() == nil)
        }
    }

    @Test func unreadRequestsHoldTheClientBack() async throws {
        let release = Signal<Void>()
        let slow = Method.bidirectional("/t/Slow") { requests, _, responses in
            try await release.wait()
            var count = 0
            for try await _ in requests { count += 1 }
            try await responses.write(ByteBuffer(integer: count))
        }
        try await withServer([slow]) { _, client in
            let call = try await client.bidirectional("/t/Slow")
            let writer = Task {
                for _ in 0..<200 { try await call.write(ByteBuffer(repeating: 0, count: 10_000)) }
                try await call.finish()
            }
            release.send(())
            var responses = call.responses.makeAsyncIterator()
            #expect(try await responses.next() == ByteBuffer(integer: 200))
            try await writer.value
        }
    }

    @Test func shutdownLetsCallsFinish() async throws {
        let (started, release) = (Signal<Void>(), Signal<Void>())
        let slow = Method.unary("/t/Slow") { message, _ in
            started.send(())
            try await release.wait()
            return message
        }
        try await withServer([slow]) { server, client in
            let call = Task { try await client.unary("/t/Slow", ByteBuffer(bytes: [1])) }
            try await started.wait()
            async let stopped: Void = server.shutdown(grace: .seconds(60))
            // The client hears of it, and refuses new calls, while the old one goes on.
            var refused = false
            while !refused {
                refused =
                    try await status { _ = try await client.unary("/t/None", ByteBuffer()) }.code
                    == .unavailable
            }
            release.send(())
            #expect(try await call.value == ByteBuffer(bytes: [1]))
            await stopped
        }
    }

    @Test func shutdownEndsCallsAfterTheGrace() async throws {
        let (started, cancelled) = (Signal<Void>(), Signal<Void>())
        try await withServer([hanging(started: started, cancelled: cancelled)]) { server, client in
            let call = Task { try await client.unary("/t/Hang", ByteBuffer()) }
            try await started.wait()
            await server.shutdown(grace: .milliseconds(10))
            try await cancelled.wait()
            let status = try await status { _ = try await call.value }
            #expect(status.code == .unavailable)
        }
    }

    @Test func aConnectionThatIsGoingAwayIsNotOpen() async throws {
        let (started, cancelled) = (Signal<Void>(), Signal<Void>())
        try await withServer([hanging(started: started, cancelled: cancelled)]) { server, client in
            let call = Task { try await client.unary("/t/Hang", ByteBuffer()) }
            try await started.wait()
            #expect(await client.isOpen)
            let ending = Task { await server.shutdown(grace: .seconds(600)) }
            while await client.isOpen { await Task.yield() }
            // The call that is open goes on.
            call.cancel()
            try await cancelled.wait()
            await ending.value
        }
    }

    @Test func aConnectionThatIsClosedIsNotOpen() async throws {
        try await withServer([echo]) { server, client in
            let other = try await Client.connect(host: "127.0.0.1", port: server.port ?? 0, logger: quiet)
            await other.close()
            #expect(await !other.isOpen)
            #expect(await client.isOpen)
        }
    }

    @Test func fullServerAcceptsWhenThereIsRoom() async throws {
        try await withServer([echo], configure: { $0.connectionsMax = 1 }) { server, client in
            let port = server.port ?? 0
            // Until it has called, it is closed for any new connection.
            _ = try await client.unary("/t/Echo", ByteBuffer())
            let second = Task { try await Client.connect(host: "127.0.0.1", port: port, logger: quiet) }
            await client.close()
            let other = try await second.value
            _ = try await other.unary("/t/Echo", ByteBuffer())
            await other.close()
        }
    }

    /// Where "localhost" is ::1 as well, that address is tried first, and refused.
    @Test func oneAddressOfANameIsEnough() async throws {
        try await withServer([echo]) { server, _ in
            let client = try await Client.connect(
                host: "localhost", port: server.port ?? 0, logger: quiet)
            #expect(try await client.unary("/t/Echo", ByteBuffer(bytes: [1])) == ByteBuffer(bytes: [1]))
            await client.close()
        }
    }

    @Test func unreachable() async throws {
        let status = try await status {
            _ = try await Client.connect(host: "127.0.0.1", port: 1, logger: quiet)
        }
        #expect(status.code == .unavailable)
    }
}

/// Counts who is in it at once.
private final class Crowd: Sendable {
    private struct State {
        var now = 0
        var most = 0
        var waiting: [Signal<Void>] = []
    }

    private let state = Mutex(State())
    private let count: Int

    /// - Parameter count: the first ones wait until so many are in it.
    init(meeting count: Int) { self.count = count }

    var most: Int { state.withLock(\.most) }

    /// Until enough have met, and for some turns of the executor, so that more come meanwhile if they may.
    func stay() async throws {
        let met = Signal<Void>()
        let released = state.withLock { state -> [Signal<Void>] in
            state.now += 1
            state.most = max(state.most, state.now)
            state.waiting.append(met)
            guard state.most >= count else { return [] }
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in released { waiter.send(()) }
        try await met.wait()
        for _ in 0..<10 { await Task.yield() }
        state.withLock { $0.now -= 1 }
    }
}
