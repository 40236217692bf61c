import JobModel
import JobStore
import Logging
import Postgres
import Support
import TestDatabase
import TestRandom
import Testing

@testable import JobWatch

/// No statement runs here: the hub only makes the watches.
@Suite struct WatchTableTests {
    private static func with(_ body: (WatchHub) throws -> Void) async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let store = JobStore(database: database, leaseDatabase: database)
                try body(WatchHub(store: store, tokens: .test, logger: Logger(label: "tests")))
            }
        }
    }

    private static let users: [ExactText] = ["a", "b", "\u{E9}", "e\u{301}"]
    private static let queues = ["p", "q"]

    private static func randomWatch(_ hub: WatchHub, _ random: inout SeededRandom) -> Subscription {
        let limit = users.filter { _ in Bool.random(using: &random) }
        return hub.subscribe(
            userID: Bool.random(using: &random) ? users.randomElement(using: &random) : nil,
            queue: Bool.random(using: &random) ? queues.randomElement(using: &random) : nil,
            users: Bool.random(using: &random) ? .only(Set(limit)) : .all)
    }

    /// There is one for each watched job, of which there may be very many.
    @Test func setsTakeNoMoreThanAReference() {
        #expect(MemoryLayout<WatchSet>.size == MemoryLayout<Subscription>.size)
    }

    /// However watches come and go, a lane has those that a comparison with each of them finds, each once.
    @Test(arguments: 0..<10)
    func findsWhatAComparisonWithEachFinds(_ seed: UInt64) async throws {
        try await Self.with { hub in
            var random = SeededRandom(seed: seed)
            var table = WatchTable()
            var watches: [Subscription] = []
            for _ in 0..<300 {
                if watches.isEmpty || Int.random(in: 0..<3, using: &random) > 0 {
                    let watch = Self.randomWatch(hub, &random)
                    table.add(watch)
                    watches.append(watch)
                } else {
                    let watch = watches.remove(at: Int.random(in: 0..<watches.count, using: &random))
                    table.remove(watch)
                    table.remove(watch)
                }
                for userID in Self.users {
                    let lane = LaneName(userID: userID, queue: Self.queues[watches.count % 2])
                    let wanted = watches.filter { $0.target.includes(lane) }
                    let found = table.watches(of: lane)
                    #expect(found.count == wanted.count)
                    #expect(Set(found.map(ObjectIdentifier.init)) == Set(wanted.map(ObjectIdentifier.init)))
                }
            }
            for watch in watches { table.remove(watch) }
            #expect(table.isEmpty && table.all.isEmpty)
        }
    }

    private static func count(_ watches: WatchSet) -> Int {
        var count = 0
        watches.forEach { _ in count += 1 }
        return count
    }

    /// Watches of other users are not compared with an event.
    @Test func watchesOfOtherUsersAreNotCompared() async throws {
        try await Self.with { hub in
            var table = WatchTable()
            for number in 0..<100 {
                table.add(hub.subscribe(userID: ExactText("u\(number)"), queue: nil, users: .all))
                table.add(hub.subscribe(userID: nil, queue: "q", users: .only([ExactText("u\(number)")])))
            }
            #expect(table.candidates(of: LaneName(userID: "u7", queue: "q")).map(Self.count) == [2, 0, 0])
            let ofQueue = hub.subscribe(userID: nil, queue: "q", users: .all)
            let ofEverything = hub.subscribe(userID: nil, queue: nil, users: .all)
            table.add(ofQueue)
            table.add(ofEverything)
            #expect(table.candidates(of: LaneName(userID: "u7", queue: "q")).map(Self.count) == [2, 1, 1])
            #expect(table.candidates(of: LaneName(userID: "u7", queue: "p")).map(Self.count) == [2, 0, 1])
        }
    }
}
