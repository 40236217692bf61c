import Testing

@testable import RPC

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

    /// However few places there are, one without a call can always be given up.
    @Test(arguments: 1...40) func callsNeverHoldAllPlaces(_ connections: Int) {
        var places = places(connections: connections, perSource: connections, calls: 2_000)
        var id: UInt64 = 0
        var accepted = 0
        for _ in 0..<200 {
            id += 1
            guard places.hasRoom else { continue }
            guard case .accepted(let victims) = places.add(id, from: "a") else { continue }
            for victim in victims { places.remove(victim) }
            accepted += 1
            _ = places.anonymousCallsCame(id, open: 1)
        }
        // The only place of a server of one or two may be that of a call.
        #expect(connections <= 2 || accepted == 200)
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

    @Test func whoHasNoAddressCountsInAll() {
        var places = places(perSource: 1)
        for id: UInt64 in 1...4 { #expect(places.add(id, from: nil) == .accepted(inPlaceOf: [])) }
        #expect(places.add(5, from: nil) == .accepted(inPlaceOf: [1]))
    }

    @Test func idsLeaveTheirQueueFromAnywhere() {
        var queue = IDQueue()
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
