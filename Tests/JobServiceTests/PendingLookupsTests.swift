import JobModel
import Support
import Testing

@testable import JobService

/// Which users a query is about, and which waiters its answer resumes.
@Suite struct PendingLookupsTests {
    /// Wraps the machine, because an expectation cannot call what mutates.
    private final class Lookups {
        private var machine = PendingLookups<String>()

        func add(_ waiter: String, about users: [ExactText]) -> Bool { machine.add(waiter, about: users) }
        func next(usersMax: Int) -> [ExactText]? { machine.next(usersMax: usersMax) }
        func answered(_ users: [ExactText], isGood: Bool) -> [String] {
            machine.answered(users, isGood: isGood)
        }
    }

    private let lookups = Lookups()

    private func sorted(_ users: [ExactText]?) -> [String]? { users?.map(\.text).sorted() }

    @Test func oneAsksForAllThatCome() {
        #expect(lookups.add("first", about: ["a"]))
        #expect(!lookups.add("second", about: ["a", "b"]))
        let users = lookups.next(usersMax: 10)
        #expect(sorted(users) == ["a", "b"])
        // A waiter that comes now asks again: the answer may be older than its query.
        #expect(!lookups.add("late", about: ["a"]))
        #expect(lookups.answered(users ?? [], isGood: true) == ["first", "second"])
        #expect(sorted(lookups.next(usersMax: 10)) == ["a"])
        #expect(lookups.answered(["a"], isGood: true) == ["late"])
        #expect(lookups.next(usersMax: 10) == nil)
        #expect(lookups.add("next", about: ["a"]))
    }

    @Test func noQuestionIsAboutMoreThanItMayBe() {
        let many = (0..<95).map { ExactText("user\($0)") }
        _ = lookups.add("many", about: many)
        _ = lookups.add("one", about: [many[3]])
        _ = lookups.add("last", about: ["z"])
        var asked: [ExactText] = []
        var over: [String] = []
        while let users = lookups.next(usersMax: 10) {
            #expect(users.count <= 10)
            asked += users
            over += lookups.answered(users, isGood: true)
        }
        // Each user once, however many ask about it.
        #expect(asked.count == 96 && Set(asked).count == 96)
        #expect(Set(over) == ["many", "one", "last"])
    }

    @Test func aFailureIsOfThoseWhoAsked() {
        _ = lookups.add("a", about: ["a"])
        _ = lookups.add("b", about: ["b"])
        _ = lookups.add("b and c", about: ["b", "c"])
        _ = lookups.add("c", about: ["c"])
        let users = lookups.next(usersMax: 2)
        #expect(sorted(users) == ["a", "b"])
        _ = lookups.add("late", about: ["a"])
        #expect(lookups.answered(users ?? [], isGood: false) == ["a", "b", "b and c"])
        #expect(sorted(lookups.next(usersMax: 2)) == ["a", "c"])
        #expect(lookups.answered(["a", "c"], isGood: true) == ["c", "late"])
        #expect(lookups.next(usersMax: 2) == nil)
    }

    @Test func aLookupOfVeryManyUsersDelaysNoOther() {
        for name in ["p", "q", "r"] {
            _ = lookups.add(name, about: (0..<100).map { ExactText("\(name)\($0)") })
        }
        _ = lookups.add("one", about: ["z"])
        var rounds = 0
        while rounds < 10, let users = lookups.next(usersMax: 2) {
            rounds += 1
            if lookups.answered(users, isGood: true) == ["one"] { break }
        }
        // Those before it were served once each.
        #expect(rounds == 2)
    }

    /// Two spellings of a letter are two users.
    @Test func usersAreDistinguishedByTheirBytes() {
        _ = lookups.add("composed", about: ["\u{E9}"])
        _ = lookups.add("decomposed", about: ["e\u{301}"])
        #expect(lookups.next(usersMax: 10)?.count == 2)
        #expect(lookups.answered(["\u{E9}"], isGood: true) == ["composed"])
    }
}
