import TestRandom
import Testing

@testable import GRPC

@Suite struct ConnectionLimiterTests {
    private typealias Limiter = ConnectionLimiter<String>

    /// Of 8 connections 4 may be unadmitted; of the 6 of a source, 3. Two calls without credentials may be open.
    private func limiter(
        connections: Int = 8, perSource: Int = 6, calls: Int = 100, callsPerSource: Int = 100,
        callsPerConnection: Int = 2
    ) -> Limiter {
        Limiter(
            .init(
                connections: connections, connectionsPerSource: perSource, anonymousCalls: calls,
                anonymousCallsPerSource: callsPerSource, anonymousCallsPerConnection: callsPerConnection))
    }

    /// Adds connections, each from a source of its own.
    private func add(_ ids: ClosedRange<UInt64>, to limiter: inout Limiter) {
        for id in ids { #expect(limiter.add(id, from: "\(id)") == .accepted(evicting: [])) }
    }

    @Test func theConnectionThatWasIdleForLongestIsEvicted() {
        var limiter = limiter()
        add(1...4, to: &limiter)
        #expect(limiter.hasRoom)
        #expect(limiter.add(5, from: "5") == .accepted(evicting: [1]))
        // A call on it was let in, and is over.
        #expect(limiter.anonymousCallsOpened(2, open: 0) == 0)
        #expect(limiter.add(6, from: "6") == .accepted(evicting: [3]))
    }

    @Test func anAdmittedConnectionIsNotEvicted() {
        var limiter = limiter()
        add(1...4, to: &limiter)
        for id: UInt64 in 1...4 { limiter.admitted(id) }
        add(5...8, to: &limiter)
        #expect(limiter.add(9, from: "9") == .accepted(evicting: [5]))
        for id: UInt64 in 6...9 { limiter.admitted(id) }
        #expect(!limiter.hasRoom)
        limiter.remove(5)
        #expect(!limiter.hasRoom)
        limiter.remove(1)
        #expect(limiter.hasRoom)
        #expect(limiter.add(10, from: "10") == .accepted(evicting: []))
    }

    /// One that comes when there is room may find none, for the idle one has a call by then.
    @Test func theLimitHolds() {
        var limiter = limiter()
        for id: UInt64 in 1...7 {
            #expect(limiter.add(id, from: "\(id)") == .accepted(evicting: []))
            limiter.admitted(id)
        }
        #expect(limiter.add(8, from: "8") == .accepted(evicting: []))
        #expect(limiter.hasRoom)
        limiter.admitted(8)
        #expect(limiter.add(9, from: "9") == .accepted(evicting: []))
        #expect(!limiter.hasRoom)
        // Without room there comes no other, but in the same moment.
        #expect(limiter.add(10, from: "10") == .accepted(evicting: [9]))
        #expect(!limiter.hasRoom)
        limiter.remove(1)
        #expect(limiter.hasRoom)
        #expect(limiter.add(11, from: "11") == .accepted(evicting: [10]))
    }

    @Test func aSourceAtItsLimitEvictsItsOwnConnections() {
        var limiter = limiter(connections: 100)
        for id: UInt64 in 1...3 { #expect(limiter.add(id, from: "a") == .accepted(evicting: [])) }
        #expect(limiter.add(4, from: "b") == .accepted(evicting: []))
        #expect(limiter.add(5, from: "a") == .accepted(evicting: [1]))
        for id: UInt64 in [2, 3, 5] { limiter.admitted(id) }
        for id: UInt64 in 6...8 { #expect(limiter.add(id, from: "a") == .accepted(evicting: [])) }
        // Six in all, of which three are admitted.
        #expect(limiter.add(9, from: "a") == .accepted(evicting: [6]))
        for id: UInt64 in 7...9 { limiter.admitted(id) }
        #expect(limiter.add(10, from: "a") == .refused)
        #expect(limiter.add(11, from: "b") == .accepted(evicting: []))
        limiter.remove(2)
        #expect(limiter.add(12, from: "a") == .accepted(evicting: []))
    }

    @Test func aConnectionWithAnOpenCallIsNotEvicted() {
        var limiter = limiter()
        add(1...4, to: &limiter)
        #expect(limiter.anonymousCallsOpened(1, open: 1) == 1)
        limiter.pendingCallsChanged(2, by: 1)
        #expect(limiter.add(5, from: "5") == .accepted(evicting: [3]))
        limiter.anonymousCallEnded(1)
        limiter.pendingCallsChanged(2, by: -1)
        #expect(limiter.add(6, from: "6") == .accepted(evicting: [4]))
        #expect(limiter.add(7, from: "7") == .accepted(evicting: [5]))
        #expect(limiter.add(8, from: "8") == .accepted(evicting: [1]))
        #expect(limiter.add(9, from: "9") == .accepted(evicting: [2]))
    }

    @Test func callsWithoutCredentialsAreFew() {
        var limiter = limiter(
            connections: 100, perSource: 80, calls: 6, callsPerSource: 4, callsPerConnection: 3)
        for (id, source) in zip(UInt64(1)..., ["a", "a", "b", "c"]) { _ = limiter.add(id, from: source) }
        #expect(limiter.anonymousCallsOpened(1, open: 1) == 1)
        #expect(limiter.anonymousCallsOpened(1, open: 9) == 2)
        #expect(limiter.anonymousCallsOpened(2, open: 9) == 1)
        #expect(limiter.anonymousCallsOpened(3, open: 9) == 2)
        #expect(limiter.anonymousCallsOpened(4, open: 1) == 0)
        limiter.anonymousCallEnded(1)
        #expect(limiter.anonymousCallsOpened(4, open: 9) == 1)
        // Of an admitted connection they are not counted.
        limiter.admitted(1)
        #expect(limiter.anonymousCallsOpened(1, open: 9) == 9)
        #expect(limiter.anonymousCallsOpened(4, open: 9) == 2)
        limiter.anonymousCallEnded(1)
        limiter.remove(3)
        limiter.remove(1)
        #expect(limiter.anonymousCallsOpened(2, open: 9) == 2)
    }

    /// However low the limit is, there is always a connection without a call that can be evicted.
    @Test(arguments: 1...40) func callsNeverHoldAllConnections(_ connections: Int) {
        for perSource in [connections, 100] {
            var limiter = limiter(connections: connections, perSource: perSource, calls: 2_000)
            for id: UInt64 in 1...200 {
                #expect(limiter.hasRoom)
                guard case .accepted(let victims) = limiter.add(id, from: "a") else {
                    Issue.record("\(id) was refused")
                    return
                }
                for victim in victims { limiter.remove(victim) }
                if id % 2 == 0 {
                    limiter.pendingCallsChanged(id, by: 1)
                } else {
                    _ = limiter.anonymousCallsOpened(id, open: 1)
                }
            }
        }
    }

    @Test func withALimitOfTwoNoCallPreventsEviction() {
        for (connections, perSource) in [(1, 9), (2, 9), (9, 1), (9, 2)] {
            var limiter = limiter(connections: connections, perSource: perSource)
            _ = limiter.add(1, from: "a")
            #expect(limiter.anonymousCallsOpened(1, open: 1) == 0)
            limiter.pendingCallsChanged(1, by: 1)
            #expect(limiter.hasRoom)
            #expect(limiter.add(2, from: "a") == .accepted(evicting: [1]))
        }
        for (connections, perSource) in [(3, 9), (9, 3)] {
            var limiter = limiter(connections: connections, perSource: perSource)
            _ = limiter.add(1, from: "a")
            #expect(limiter.anonymousCallsOpened(1, open: 1) == 1)
        }
    }

    /// Of 20 connections 10 may be unadmitted, and 4 of them stay open because of calls that wait; of one source, 2.
    @Test func fewConnectionsStayOpenForCallsThatWait() {
        var limiter = limiter(connections: 20, perSource: 10, calls: 4, callsPerSource: 2)
        for id: UInt64 in 1...10 {
            #expect(limiter.add(id, from: id <= 5 ? "a" : "b") == .accepted(evicting: []))
            limiter.pendingCallsChanged(id, by: 1)
            limiter.pendingCallsChanged(id, by: 1)
        }
        // 1, 2 of a and 6, 7 of b keep theirs.
        var victims: [UInt64] = []
        for id: UInt64 in 11...15 {
            guard case .accepted(let closed) = limiter.add(id, from: "\(id)") else { break }
            victims += closed
        }
        #expect(victims.prefix(4) == [3, 8, 4, 9])
        #expect(victims.count == 5 && Set(victims).isDisjoint(with: [1, 2, 6, 7]))
        // It stays open until none of its calls waits. Then another one may.
        limiter.pendingCallsChanged(1, by: -1)
        limiter.pendingCallsChanged(15, by: 1)
        #expect(limiter.add(16, from: "16") != .accepted(evicting: [1]))
        limiter.pendingCallsChanged(1, by: -1)
        limiter.pendingCallsChanged(15, by: 1)
        var next: UInt64 = 17
        var closed: Set<UInt64> = []
        while next < 40 {
            guard case .accepted(let victims) = limiter.add(next, from: "\(next)") else { break }
            closed.formUnion(victims)
            next += 1
        }
        #expect(next == 40 && closed.contains(1) && closed.isDisjoint(with: [2, 6, 7, 15]))
    }

    /// A connection that is admitted, closing or removed no longer counts as waiting.
    @Test func aConnectionWhoseCallHasWaitedNoLongerCounts() {
        var limiter = limiter(connections: 12, perSource: 12, calls: 1)
        let ends: [(inout Limiter, UInt64) -> Void] = [
            { $0.admitted($1) }, { $0.remove($1) }, { $0.pendingCallsChanged($1, by: -1) },
            { _ = $0.anonymousCallsOpened($1, open: 1) },
        ]
        for (id, end) in zip(UInt64(1)..., ends) {
            _ = limiter.add(id, from: "a")
            limiter.pendingCallsChanged(id, by: 1)
            end(&limiter, id)
        }
        // The one with an anonymous call stays open because of that call, and after its end because of the call that waits.
        limiter.anonymousCallEnded(4)
        for id: UInt64 in 11...30 {
            guard case .accepted(let victims) = limiter.add(id, from: "\(id)") else { break }
            #expect(!victims.contains(4))
        }
    }

    /// Two sources that connect again and again keep out nobody who is slower than they are.
    @Test func theOnlyConnectionOfASourceIsClosedLast() {
        var limiter = limiter(connections: 100, perSource: 50)
        for id: UInt64 in 1...3 { #expect(limiter.add(id, from: "\(id)") == .accepted(evicting: [])) }
        for id: UInt64 in 4...2_000 {
            guard case .accepted(let victims) = limiter.add(id, from: id % 2 == 0 ? "a" : "b") else {
                Issue.record("\(id) was refused")
                return
            }
            #expect(victims.allSatisfy { $0 > 3 })
            for victim in victims { limiter.remove(victim) }
        }
        for id: UInt64 in 1...3 { limiter.admitted(id) }
        // Three more unadmitted ones may come now.
        for id: UInt64 in 2_001...2_003 { #expect(limiter.add(id, from: "c") == .accepted(evicting: [])) }
    }

    @Test func closingConnectionsAreLimited() {
        var limiter = limiter()
        add(1...4, to: &limiter)
        var next: UInt64 = 5
        var victims: [UInt64] = []
        while limiter.hasRoom {
            guard case .accepted(let closed) = limiter.add(next, from: "\(next)") else { break }
            victims += closed
            next += 1
        }
        #expect(victims.count == Limiter.closingMax)
        limiter.remove(victims[0])
        #expect(limiter.hasRoom)
        for victim in victims { limiter.remove(victim) }
        for id in (next - 4)..<next { limiter.remove(id) }
        #expect(limiter.isEmpty)
    }

    /// One that is to be closed may be admitted in that moment, or have a call.
    @Test func eventsOfAClosingConnectionChangeNothing() {
        var limiter = limiter()
        add(1...4, to: &limiter)
        #expect(limiter.add(5, from: "5") == .accepted(evicting: [1]))
        #expect(limiter.add(6, from: "6") == .accepted(evicting: [2]))
        #expect(limiter.anonymousCallsOpened(1, open: 1) == 1)
        limiter.admitted(2)
        limiter.anonymousCallEnded(1)
        limiter.remove(1)
        limiter.remove(2)
        limiter.remove(2)
        #expect(limiter.add(7, from: "7") == .accepted(evicting: [3]))
        for id: UInt64 in 3...7 { limiter.remove(id) }
        #expect(limiter.isEmpty)
        add(11...14, to: &limiter)
    }

    @Test func connectionsWithoutAnAddressAreOneSource() {
        var limiter = limiter(connections: 100)
        for id: UInt64 in 1...3 { #expect(limiter.add(id, from: nil) == .accepted(evicting: [])) }
        #expect(limiter.add(4, from: nil) == .accepted(evicting: [1]))
        limiter = self.limiter()
        #expect(limiter.add(1, from: "a") == .accepted(evicting: []))
        for id: UInt64 in 2...4 { #expect(limiter.add(id, from: nil) == .accepted(evicting: [])) }
        #expect(limiter.add(5, from: "b") == .accepted(evicting: [2]))
    }
}

@Suite struct IdleConnectionsTests {
    /// Against a list of all connections that is looked through.
    @Test func theFirstIsTheOldestOfASourceWithTheMost() {
        var random = SeededRandom(seed: 7)
        var idle = IdleConnections<Int>()
        var list: [(id: UInt64, source: Int?)] = []
        for id: UInt64 in 1...5_000 {
            // More come, then fewer.
            if Int.random(in: 0..<10, using: &random) < (id % 1_000 < 500 ? 7 : 3) {
                let source = Int.random(in: 0..<6, using: &random)
                list.append((id, source == 0 ? nil : source))
                idle.append(id, of: list[list.count - 1].source)
            } else if let index = list.indices.randomElement(using: &random) {
                let (id, source) = list.remove(at: index)
                idle.remove(id, of: source)
                idle.remove(id, of: source)
            }
            #expect(idle.count == list.count)
            let most = Dictionary(grouping: list, by: \.source).values.map(\.count).max() ?? 0
            guard let first = idle.first else {
                #expect(list.isEmpty)
                continue
            }
            guard let (_, source) = list.first(where: { $0.id == first }) else {
                Issue.record("\(first) is not there")
                return
            }
            let ofSource = list.filter { $0.source == source }
            #expect(ofSource.count == most && ofSource[0].id == first)
            #expect(idle.first(of: source) == first && idle.count(of: source) == most)
        }
    }

    /// Those of sources with as many go in the order in which they came.
    @Test func amongEqualsTheOldestIsFirst() {
        var idle = IdleConnections<String>()
        for (id, source) in zip(UInt64(1)..., ["a", "b", "c"]) { idle.append(id, of: source) }
        idle.remove(1, of: "a")
        idle.append(1, of: "a")
        for (id, source) in [(2, "b"), (3, "c"), (1, "a")] as [(UInt64, String)] {
            #expect(idle.first == id)
            idle.remove(id, of: source)
        }
        #expect(idle.first == nil && idle.count == 0)
    }

    @Test func elementsLeaveTheirQueueFromAnywhere() {
        var queue = LinkedQueue<UInt64>()
        for id: UInt64 in 1...4 { queue.append(id) }
        queue.remove(3)
        queue.remove(9)
        queue.remove(4)
        queue.append(5)
        #expect(queue.first == 1)
        queue.remove(1)
        #expect(queue.first == 2)
        queue.remove(2)
        #expect(queue.first == 5)
        queue.remove(5)
        #expect(queue.count == 0)
    }
}
