import JobModel
import Support
import Testing

@testable import JobService

/// Which users a query is about, and which askers its answer resumes.
@Suite struct PendingQuestionsTests {
    /// Wraps the machine, because an expectation cannot call what mutates.
    private final class Questions {
        private var machine = PendingQuestions<String>()

        func add(_ asker: String, about users: [ExactText]) -> Bool { machine.add(asker, about: users) }
        func next(usersMax: Int) -> [ExactText]? { machine.next(usersMax: usersMax) }
        func answered(_ users: [ExactText], isGood: Bool) -> [String] {
            machine.answered(users, isGood: isGood)
        }
    }

    private let questions = Questions()

    private func sorted(_ users: [ExactText]?) -> [String]? { users?.map(\.text).sorted() }

    @Test func oneAsksForAllThatCome() {
        #expect(questions.add("first", about: ["a"]))
        #expect(!questions.add("second", about: ["a", "b"]))
        let users = questions.next(usersMax: 10)
        #expect(sorted(users) == ["a", "b"])
        // An asker that comes now asks again: the answer may be older than its question.
        #expect(!questions.add("late", about: ["a"]))
        #expect(questions.answered(users ?? [], isGood: true) == ["first", "second"])
        #expect(sorted(questions.next(usersMax: 10)) == ["a"])
        #expect(questions.answered(["a"], isGood: true) == ["late"])
        #expect(questions.next(usersMax: 10) == nil)
        #expect(questions.add("next", about: ["a"]))
    }

    @Test func noQuestionIsAboutMoreThanItMayBe() {
        let many = (0..<95).map { ExactText("user\($0)") }
        _ = questions.add("many", about: many)
        _ = questions.add("one", about: [many[3]])
        _ = questions.add("last", about: ["z"])
        var asked: [ExactText] = []
        var over: [String] = []
        while let users = questions.next(usersMax: 10) {
            #expect(users.count <= 10)
            asked += users
            over += questions.answered(users, isGood: true)
        }
        // Each user once, however many ask about it.
        #expect(asked.count == 96 && Set(asked).count == 96)
        #expect(Set(over) == ["many", "one", "last"])
    }

    @Test func aFailureIsOfThoseWhoAsked() {
        _ = questions.add("a", about: ["a"])
        _ = questions.add("b", about: ["b"])
        _ = questions.add("b and c", about: ["b", "c"])
        _ = questions.add("c", about: ["c"])
        let users = questions.next(usersMax: 2)
        #expect(sorted(users) == ["a", "b"])
        _ = questions.add("late", about: ["a"])
        #expect(questions.answered(users ?? [], isGood: false) == ["a", "b", "b and c"])
        #expect(sorted(questions.next(usersMax: 2)) == ["a", "c"])
        #expect(questions.answered(["a", "c"], isGood: true) == ["c", "late"])
        #expect(questions.next(usersMax: 2) == nil)
    }

    @Test func whoAsksAboutVeryManyHoldsUpNobody() {
        for name in ["p", "q", "r"] {
            _ = questions.add(name, about: (0..<100).map { ExactText("\(name)\($0)") })
        }
        _ = questions.add("one", about: ["z"])
        var rounds = 0
        while rounds < 10, let users = questions.next(usersMax: 2) {
            rounds += 1
            if questions.answered(users, isGood: true) == ["one"] { break }
        }
        // Those before it were served once each.
        #expect(rounds == 2)
    }

    /// Two spellings of a letter are two users.
    @Test func usersAreToldApartByTheirBytes() {
        _ = questions.add("composed", about: ["\u{E9}"])
        _ = questions.add("decomposed", about: ["e\u{301}"])
        #expect(questions.next(usersMax: 10)?.count == 2)
        #expect(questions.answered(["\u{E9}"], isGood: true) == ["composed"])
    }
}
