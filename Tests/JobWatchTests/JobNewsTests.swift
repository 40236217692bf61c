import JobModel
import JobWatch
import Testing

@Suite struct JobNewsTests {
    private final class Message: Sendable {
        let text: String

        init(_ text: String) {
            self.text = text
        }
    }

    private static let event = WatchBufferTests.event(2)

    @Test func whatIsMadeOfItIsMadeOnce() {
        let news = JobNews(Self.event)
        let first = news.product { Message("\($0.sequence)") }
        let second = news.product { _ in Message("not made") }
        #expect(ObjectIdentifier(first) == ObjectIdentifier(second))
        #expect((first as? Message)?.text == "2")
    }

    @Test func ofManyAtOnceAllGetTheSame() async {
        let news = JobNews(Self.event)
        let made = await withTaskGroup(of: ObjectIdentifier.self) { group in
            for number in 0..<100 {
                group.addTask { ObjectIdentifier(news.product { _ in Message("\(number)") }) }
            }
            return await group.reduce(into: Set<ObjectIdentifier>()) { $0.insert($1) }
        }
        #expect(made.count == 1)
    }

    @Test func isEqualByWhatItSays() {
        let progress = Progress(
            stage: "s", fraction: 0.5, message: "", step: 0, steps: 0, updatedAt: Timestamp(microseconds: 7))
        let news = JobNews(of: WatchBufferTests.job, attempt: 1, progress)
        #expect(news == JobNews(of: WatchBufferTests.job, attempt: 1, progress))
        #expect(news != JobNews(of: WatchBufferTests.other, attempt: 1, progress))
        #expect(news != JobNews(of: WatchBufferTests.job, attempt: 2, progress))
        #expect(news != JobNews(Self.event))
        #expect(news.sequence == 0 && news.at == progress.updatedAt)
    }
}
