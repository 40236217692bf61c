import JobModel
import Testing

@Suite struct JobRecordTests {
    @Test func cutKeepsWholeCharacters() {
        #expect("abc".cut(toBytes: 3) == "abc")
        #expect("abcd".cut(toBytes: 3) == "abc")
        #expect("abc".cut(toBytes: 0) == "")
        #expect("aé".cut(toBytes: 2) == "a")
        #expect("aé".cut(toBytes: 3) == "aé")
        #expect("😀😀".cut(toBytes: 7) == "😀")
        #expect("😀".cut(toBytes: 3) == "")
        // Between scalars of one character is allowed: the text stays UTF-8.
        #expect("e\u{301}x".cut(toBytes: 3) == "e\u{301}")
        #expect(Array("e\u{301}x".cut(toBytes: 2).utf8) == [0x65])
    }

    @Test func cutTakesOutNUL() {
        #expect("a\0b".cut(toBytes: 10) == "a\u{FFFD}b")
        // The replacement is longer, and counted.
        #expect("\0\0".cut(toBytes: 5) == "\u{FFFD}")
    }

    @Test func cutOfEveryLengthIsAPrefix() {
        let text = "aé😀e\u{301}字\u{1F468}\u{200D}\u{1F469}z"
        for limit in 0...text.utf8.count {
            let cut = text.cut(toBytes: limit)
            #expect(cut.utf8.count <= limit)
            #expect(cut.utf8.count > limit - 4)
            #expect(Array(text.utf8).starts(with: cut.utf8))
            #expect(!cut.unicodeScalars.contains("\u{FFFD}"))
        }
    }

    @Test func whatIsReportedIsMadeToFit() {
        func progress(_ fraction: Double?, done: Int64 = 0, total: Int64 = 0) -> Progress {
            Progress(
                stage: String(repeating: "s", count: 200), fraction: fraction,
                message: String(repeating: "m", count: 2000), done: done, total: total,
                updatedAt: Timestamp(microseconds: 0))
        }
        let some = progress(0.5, done: -1, total: .max)
        #expect(some.stage.utf8.count == 128 && some.message.utf8.count == 1024)
        #expect(some.done == 0 && some.total == .max)
        #expect(
            [-1, 0, 0.25, 1, 2, .nan, .infinity, -.infinity, nil].map { progress($0).fraction }
                == [0, 0, 0.25, 1, 1, nil, 1, 0, nil])
        let error = JobError(
            reason: String(repeating: "r", count: 65), message: String(repeating: "m", count: 4097),
            cause: .handler)
        #expect(error.reason.utf8.count == 64 && error.message.utf8.count == 4096)
        let line = LogLine(
            number: 1, at: Timestamp(microseconds: 0), attempt: 1, level: .info,
            message: String(repeating: "m", count: 5000))
        #expect(line.message.utf8.count == 4096)
    }

    /// The cause says it already. A handler's word is not taken for a cause.
    @Test func wordOfTheCauseIsNoReason() {
        for cause in FailureCause.allCases {
            #expect(
                JobError(reason: cause.word, message: "m", cause: cause)
                    == JobError(message: "m", cause: cause))
        }
        for word in ["timeout", "cancelled", "permanent", "quota"] {
            let error = JobError(reason: word, message: "m", cause: .handler)
            #expect(error.reason == word && error.cause == .handler)
        }
        #expect(Set(FailureCause.allCases.map(\.word)).count == FailureCause.allCases.count)
    }

    /// A letter with a million marks is one character, whose end nobody needs to find.
    @Test(.timeLimit(.minutes(3))) func cutOfManyMarks() {
        let text = "a\0" + String(repeating: "\u{345}\u{334}", count: 500_000)
        #expect(text.cut(toBytes: 4_096).utf8.count == 4_096)
    }
}
