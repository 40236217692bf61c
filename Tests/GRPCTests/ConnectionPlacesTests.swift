import TestRandom
import Testing

@testable import GRPC

@Suite struct ConnectionPlacesTests {
    private typealias Places = ConnectionPlaces<String>

    /// Of 8 connections 4 may be unadmitted; of the 6 of a source, 3. Two calls without credentials may be open.
    private func places(
        connections: Int = 8, perSource: Int = 6, calls: Int = 100, callsPerSource: Int = 100,
        callsPerConnection: Int = 2
    ) -> Places {
        Places(
            .init(
                connections: connections, connectionsPerSource: perSource, anonymousCalls: calls,
                anonymousCallsPerSource: callsPerSource, anonymousCallsPerConnection: callsPerConnection))
    }

    /// Adds connections, each from a source of its own.
    private func add(_ ids: ClosedRange<UInt64>, to places: inout Places) {
        for id in ids { #expect(places.add(id, from: "\(id)") == .accepted(inPlaceOf: [])) }
    }

    @Test func theOneThatWasIdleForLongestGivesUpItsPlace() {
        var places = places()
        add(1...4, to: &places)
        #expect(places.hasRoom)
        #expect(places.add(5, from: "5") == .accepted(inPlaceOf: [1]))
        // A call on it was let in, and is over.
        #expect(places.anonymousCallsCame(2, open: 0) == 0)
        #expect(places.add(6, from: "6") == .accepted(inPlaceOf: [3]))
    }

    @Test func anAdmittedConnectionKeepsItsPlace() {
        var places = places()
        add(1...4, to: &places)
        for id: UInt64 in 1...4 { places.admitted(id) }
        add(5...8, to: &places)
        #expect(places.add(9, from: "9") == .accepted(inPlaceOf: [5]))
        for id: UInt64 in 6...9 { places.admitted(id) }
        #expect(!places.hasRoom)
        places.remove(5)
        #expect(!places.hasRoom)
        places.remove(1)
        #expect(places.hasRoom)
        #expect(places.add(10, from: "10") == .accepted(inPlaceOf: []))
    }

    /// One that comes when there is room may find none, for the idle one has a call by then.
    @Test func thereIsNoWayPastTheLimit() {
        var places = places()
        for id: UInt64 in 1...7 {
            #expect(places.add(id, from: "\(id)") == .accepted(inPlaceOf: []))
            places.admitted(id)
        }
        #expect(places.add(8, from: "8") == .accepted(inPlaceOf: []))
        #expect(places.hasRoom)
        places.admitted(8)
        #expect(places.add(9, from: "9") == .accepted(inPlaceOf: []))
        #expect(!places.hasRoom)
        // Without room there comes no other, but in the same moment.
        #expect(places.add(10, from: "10") == .accepted(inPlaceOf: [9]))
        #expect(!places.hasRoom)
        places.remove(1)
        #expect(places.hasRoom)
        #expect(places.add(11, from: "11") == .accepted(inPlaceOf: [10]))
    }

    @Test func aSourceTakesPlacesFromItself() {
        var places = places(connections: 100)
        for id: UInt64 in 1...3 { #expect(places.add(id, from: "a") == .accepted(inPlaceOf: [])) }
        #expect(places.add(4, from: "b") == .accepted(inPlaceOf: []))
        #expect(places.add(5, from: "a") == .accepted(inPlaceOf: [1]))
        for id: UInt64 in [2, 3, 5] { places.admitted(id) }
        for id: UInt64 in 6...8 { #expect(places.add(id, from: "a") == .accepted(inPlaceOf: [])) }
        // Six in all, of which three are admitted.
        #expect(places.add(9, from: "a") == .accepted(inPlaceOf: [6]))
        for id: UInt64 in 7...9 { places.admitted(id) }
        #expect(places.add(10, from: "a") == .refused)
        #expect(places.add(11, from: "b") == .accepted(inPlaceOf: []))
        places.remove(2)
        #expect(places.add(12, from: "a") == .accepted(inPlaceOf: []))
    }

    @Test func aConnectionWithAnOpenCallKeepsItsPlace() {
        var places = places()
        add(1...4, to: &places)
        #expect(places.anonymousCallsCame(1, open: 1) == 1)
        places.pendingCallsChanged(2, by: 1)
        #expect(places.add(5, from: "5") == .accepted(inPlaceOf: [3]))
        places.anonymousCallEnded(1)
        places.pendingCallsChanged(2, by: -1)
        #expect(places.add(6, from: "6") == .accepted(inPlaceOf: [4]))
        #expect(places.add(7, from: "7") == .accepted(inPlaceOf: [5]))
        #expect(places.add(8, from: "8") == .accepted(inPlaceOf: [1]))
        #expect(places.add(9, from: "9") == .accepted(inPlaceOf: [2]))
    }

    @Test func callsWithoutCredentialsAreFew() {
        var places = places(
            connections: 100, perSource: 80, calls: 6, callsPerSource: 4, callsPerConnection: 3)
        for (id, source) in zip(UInt64(1)..., ["a", "a", "b", "c"]) { _ = places.add(id, from: source) }
        #expect(places.anonymousCallsCame(1, open: 1) == 1)
        #expect(places.anonymousCallsCame(1, open: 9) == 2)
        #expect(places.anonymousCallsCame(2, open: 9) == 1)
        #expect(places.anonymousCallsCame(3, open: 9) == 2)
        #expect(places.anonymousCallsCame(4, open: 1) == 0)
        places.anonymousCallEnded(1)
        #expect(places.anonymousCallsCame(4, open: 9) == 1)
        // Of an admitted connection they are not counted.
        places.admitted(1)
        #expect(places.anonymousCallsCame(1, open: 9) == 9)
        #expect(places.anonymousCallsCame(4, open: 9) == 2)
        places.anonymousCallEnded(1)
        places.remove(3)
        places.remove(1)
        #expect(places.anonymousCallsCame(2, open: 9) == 2)
    }

    /// However few places there are, one without a call that keeps it can always be given up.
    @Test(arguments: 1...40) func callsNeverHoldAllPlaces(_ connections: Int) {
        for perSource in [connections, 100] {
            var places = places(connections: connections, perSource: perSource, calls: 2_000)
            for id: UInt64 in 1...200 {
                #expect(places.hasRoom)
                guard case .accepted(let victims) = places.add(id, from: "a") else {
                    Issue.record("\(id) was refused")
                    return
                }
                for victim in victims { places.remove(victim) }
                if id % 2 == 0 {
                    places.pendingCallsChanged(id, by: 1)
                } else {
                    _ = places.anonymousCallsCame(id, open: 1)
                }
            }
        }
    }

    @Test func whereThereAreTwoPlacesNoCallKeepsOne() {
        for (connections, perSource) in [(1, 9), (2, 9), (9, 1), (9, 2)] {
            var places = places(connections: connections, perSource: perSource)
            _ = places.add(1, from: "a")
            #expect(places.anonymousCallsCame(1, open: 1) == 0)
            places.pendingCallsChanged(1, by: 1)
            #expect(places.hasRoom)
            #expect(places.add(2, from: "a") == .accepted(inPlaceOf: [1]))
        }
        for (connections, perSource) in [(3, 9), (9, 3)] {
            var places = places(connections: connections, perSource: perSource)
            _ = places.add(1, from: "a")
            #expect(places.anonymousCallsCame(1, open: 1) == 1)
        }
    }

    /// Of 20 connections 10 may be unadmitted, and 4 of them keep their place because of calls that wait; of one source, 2.
    @Test func callsThatWaitKeepFewPlaces() {
        var places = places(connections: 20, perSource: 10, calls: 4, callsPerSource: 2)
        for id: UInt64 in 1...10 {
            #expect(places.add(id, from: id <= 5 ? "a" : "b") == .accepted(inPlaceOf: []))
            places.pendingCallsChanged(id, by: 1)
            places.pendingCallsChanged(id, by: 1)
        }
        // 1, 2 of a and 6, 7 of b keep theirs.
        var victims: [UInt64] = []
        for id: UInt64 in 11...15 {
            guard case .accepted(let closed) = places.add(id, from: "\(id)") else { break }
            victims += closed
        }
        #expect(victims.prefix(4) == [3, 8, 4, 9])
        #expect(victims.count == 5 && Set(victims).isDisjoint(with: [1, 2, 6, 7]))
        // It keeps its place until none of its calls waits. Then another one may.
        places.pendingCallsChanged(1, by: -1)
        places.pendingCallsChanged(15, by: 1)
        #expect(places.add(16, from: "16") != .accepted(inPlaceOf: [1]))
        places.pendingCallsChanged(1, by: -1)
        places.pendingCallsChanged(15, by: 1)
        var next: UInt64 = 17
        var closed: Set<UInt64> = []
        while next < 40 {
            guard case .accepted(let victims) = places.add(next, from: "\(next)") else { break }
            closed.formUnion(victims)
            next += 1
        }
        #expect(next == 40 && closed.contains(1) && closed.isDisjoint(with: [2, 6, 7, 15]))
    }

    /// Whose calls were let in, or who is closed or gone, has no such place any more.
    @Test func aPlaceOfACallThatWaitedIsFreeAgain() {
        var places = places(connections: 12, perSource: 12, calls: 1)
        let ends: [(inout Places, UInt64) -> Void] = [
            { $0.admitted($1) }, { $0.remove($1) }, { $0.pendingCallsChanged($1, by: -1) },
            { _ = $0.anonymousCallsCame($1, open: 1) },
        ]
        for (id, end) in zip(UInt64(1)..., ends) {
            _ = places.add(id, from: "a")
            places.pendingCallsChanged(id, by: 1)
            end(&places, id)
        }
        // The one with an anonymous call keeps its place by that; when it is over, by the call that waits.
        places.anonymousCallEnded(4)
        for id: UInt64 in 11...30 {
            guard case .accepted(let victims) = places.add(id, from: "\(id)") else { break }
            #expect(!victims.contains(4))
        }
    }

    /// Two sources that connect again and again keep out nobody who is slower than they are.
    @Test func theOnlyConnectionOfASourceIsClosedLast() {
        var places = places(connections: 100, perSource: 50)
        for id: UInt64 in 1...3 { #expect(places.add(id, from: "\(id)") == .accepted(inPlaceOf: [])) }
        for id: UInt64 in 4...2_000 {
            guard case .accepted(let victims) = places.add(id, from: id % 2 == 0 ? "a" : "b") else {
                Issue.record("\(id) was refused")
                return
            }
            #expect(victims.allSatisfy { $0 > 3 })
            for victim in victims { places.remove(victim) }
        }
        for id: UInt64 in 1...3 { places.admitted(id) }
        // Three more unadmitted ones may come now.
        for id: UInt64 in 2_001...2_003 { #expect(places.add(id, from: "c") == .accepted(inPlaceOf: [])) }
    }

    @Test func onlySoManyAreClosedAtOnce() {
        var places = places()
        add(1...4, to: &places)
        var next: UInt64 = 5
        var victims: [UInt64] = []
        while places.hasRoom {
            guard case .accepted(let closed) = places.add(next, from: "\(next)") else { break }
            victims += closed
            next += 1
        }
        #expect(victims.count == Places.closingMax)
        places.remove(victims[0])
        #expect(places.hasRoom)
        for victim in victims { places.remove(victim) }
        for id in (next - 4)..<next { places.remove(id) }
        #expect(places.isEmpty)
    }

    /// One that is to be closed may be admitted in that moment, or have a call.
    @Test func whatComesWhileItIsClosedChangesNothing() {
        var places = places()
        add(1...4, to: &places)
        #expect(places.add(5, from: "5") == .accepted(inPlaceOf: [1]))
        #expect(places.add(6, from: "6") == .accepted(inPlaceOf: [2]))
        #expect(places.anonymousCallsCame(1, open: 1) == 1)
        places.admitted(2)
        places.anonymousCallEnded(1)
        places.remove(1)
        places.remove(2)
        places.remove(2)
        #expect(places.add(7, from: "7") == .accepted(inPlaceOf: [3]))
        for id: UInt64 in 3...7 { places.remove(id) }
        #expect(places.isEmpty)
        add(11...14, to: &places)
    }

    @Test func whoHasNoAddressIsOneSource() {
        var places = places(connections: 100)
        for id: UInt64 in 1...3 { #expect(places.add(id, from: nil) == .accepted(inPlaceOf: [])) }
        #expect(places.add(4, from: nil) == .accepted(inPlaceOf: [1]))
        places = self.places()
        #expect(places.add(1, from: "a") == .accepted(inPlaceOf: []))
        for id: UInt64 in 2...4 { #expect(places.add(id, from: nil) == .accepted(inPlaceOf: [])) }
        #expect(places.add(5, from: "b") == .accepted(inPlaceOf: [2]))
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
