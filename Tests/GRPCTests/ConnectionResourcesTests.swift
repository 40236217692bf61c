import Testing

@testable import GRPC

@Suite struct ConnectionResourcesTests {
    private func resources(
        _ configure: (inout ServerConfiguration) -> Void = { _ in }
    ) -> ConnectionResources {
        var configuration = ServerConfiguration()
        configure(&configuration)
        return ConnectionResources(configuration: configuration, budgets: MemoryBudgets(configuration))
    }

    @Test func streamsOverTheLimitAreAFault() {
        let resources = resources { $0.streamsPerConnectionMax = 2 }
        #expect(resources.admitCall(openStreams: 2, queuedBytes: 0) == .admitted)
        #expect(resources.admitCall(openStreams: 3, queuedBytes: 0) == .refused(isFault: true))
    }

    /// Rapid reset: the streams are gone, their handlers still run.
    @Test func handlersOfResetStreamsCount() {
        var resources = resources { $0.streamsPerConnectionMax = 2 }
        resources.handlerStarted()
        resources.handlerStarted()
        #expect(resources.admitCall(openStreams: 1, queuedBytes: 0) == .refused(isFault: false))
        resources.handlerReturned()
        #expect(resources.admitCall(openStreams: 1, queuedBytes: 0) == .admitted)
    }

    @Test func slowReaderBeginsNoMoreCalls() {
        let resources = resources { $0.outboundBytesPerConnection = 100 }
        #expect(resources.admitCall(openStreams: 1, queuedBytes: 399) == .admitted)
        #expect(resources.admitCall(openStreams: 1, queuedBytes: 400) == .refused(isFault: false))
        #expect(resources.hasPermit(queuedBytes: 99))
        #expect(!resources.hasPermit(queuedBytes: 100))
    }

    @Test func permitsAreFew() {
        var resources = resources { $0.permitsPerConnection = 1 }
        resources.takePermit()
        #expect(!resources.hasPermit(queuedBytes: 0))
        resources.returnPermit()
        #expect(resources.hasPermit(queuedBytes: 0))
    }

    @Test func requestsOfAConnectionAreBounded() {
        var resources = resources { $0.requestBytesPerConnection = 1_000 }
        #expect(resources.admit(request: .init(held: 1_000, unfinished: 1_000, total: 1_000)) == nil)
        let excess = resources.admit(request: .init(held: 1, unfinished: 1, total: 1))
        #expect(excess?.code == .resourceExhausted)
        #expect(resources.requestBytes == 1_001)
        // Bytes that are given back are never an excess.
        #expect(resources.admit(request: .init(held: -1_001, unfinished: -1_001, total: 0)) == nil)
        #expect(resources.requestBytes == 0 && resources.unfinishedBytes == 0)
    }

    @Test func smallRequestsAreExemptFromTheServersLimit() {
        let exempt = ConnectionResources.requestBytesExempt
        let small = ConnectionResources.smallRequestBytes
        var resources = resources { $0.requestBytesMax = 0 }
        #expect(resources.admit(request: .init(held: exempt, unfinished: 0, total: exempt)) == nil)
        #expect(resources.admit(request: .init(held: small, unfinished: 0, total: small)) == nil)
        let excess = resources.admit(request: .init(held: small + 1, unfinished: 0, total: small + 1))
        #expect(excess?.message == "server memory limit for requests reached, try again")
    }

    @Test func smallResponsesAreExemptFromTheServersLimit() {
        let (exempt, small) = (ConnectionResources.unreadBytesExempt, ConnectionResources.smallResponseBytes)
        var resources = resources { $0.unreadAnswerBytesMax = 0 }
        #expect(resources.admit(response: exempt, queuedBytes: 0, queuedOnStream: 0) == nil)
        #expect(resources.admit(response: small, queuedBytes: exempt, queuedOnStream: 0) == nil)
        let excess = resources.admit(response: 1, queuedBytes: exempt + small, queuedOnStream: small)
        #expect(excess?.message == "too much unread response data on the server, try again")
    }

    @Test func windowThatLetsTooLittleThroughStalls() {
        var resources = resources()
        for tick in 1...3 {
            resources.tick(bodyBytesSent: 100 * tick, isHeldByPeer: true)
            #expect(resources.windowStallTicks == tick)
        }
        resources.tick(bodyBytesSent: 300 + StallDetector.bytesMin, isHeldByPeer: true)
        #expect(resources.windowStallTicks == 0)
        resources.tick(bodyBytesSent: 0, isHeldByPeer: false)
        #expect(resources.windowStallTicks == 0)
    }

    @Test func fullSocketStallsFromItsSecondTick() {
        var resources = resources()
        #expect([0, 0, 0].map { resources.tickFullSocket(acknowledgedBytes: $0) } == [0, 1, 2])
        resources.socketDrained()
        #expect(resources.tickFullSocket(acknowledgedBytes: 0) == 0)
    }
}
