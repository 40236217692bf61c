import JobModel
import JobWatch
import Testing

@Suite struct WatchUpdateTests {
    private final class Message: Sendable {
        let text: String

        init(_ text: String) {
            self.text = text
        }
    }

    private static let event = WatchBufferTests.event(2)

    @Test func aProductIsMadeOnce() {
        let update = WatchUpdate(Self.event)
        let first = update.product { Message("\($0.sequence)") }
        let second = update.product { _ in Message("not made") }
        #expect(ObjectIdentifier(first) == ObjectIdentifier(second))
        #expect((first as? Message)?.text == "2")
    }

    @Test func concurrentCallsGetTheSameProduct() async {
        let update = WatchUpdate(Self.event)
        let made = await withTaskGroup(of: ObjectIdentifier.self) { group in
            for number in 0..<100 {
                group.addTask { ObjectIdentifier(update.product { _ in Message("\(number)") }) }
            }
            return await group.reduce(into: Set<ObjectIdentifier>()) { $0.insert($1) }
        }
        #expect(made.count == 1)
    }

    /// All watches that may not see the node share one object, and with it one encoded message.
    @Test func newsWithoutTheNodeIsMadeOnce() {
        var event = Self.event
        event.node = "one"
        let update = WatchUpdate(event)
        let hidden = update.withoutNode()
        event.node = nil
        #expect(hidden.content == .event(event) && hidden !== update)
        #expect(update.withoutNode() === hidden && hidden.withoutNode() === hidden)
        let progress = Progress(
            stage: "", fraction: 0, message: "", done: 0, total: 0, updatedAt: Timestamp(microseconds: 7))
        let other = WatchUpdate(of: WatchBufferTests.job, attempt: 1, progress)
        #expect(other.withoutNode() === other)
    }

    @Test func newsIsEqualByContent() {
        let progress = Progress(
            stage: "s", fraction: 0.5, message: "", done: 0, total: 0, updatedAt: Timestamp(microseconds: 7))
        let update = WatchUpdate(of: WatchBufferTests.job, attempt: 1, progress)
        #expect(update == WatchUpdate(of: WatchBufferTests.job, attempt: 1, progress))
        #expect(update != WatchUpdate(of: WatchBufferTests.other, attempt: 1, progress))
        #expect(update != WatchUpdate(of: WatchBufferTests.job, attempt: 2, progress))
        #expect(update != WatchUpdate(Self.event))
        #expect(update.sequence == 0 && update.at == progress.updatedAt)
    }
}
