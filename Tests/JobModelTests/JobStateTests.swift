import Foundation
import JobModel
import Testing

@Suite struct JobStateTests {
    /// The page shows the same table as the code, in its diagram and in its list of events.
    @Test func pageShowsTheTable() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(
            contentsOf: root.appending(path: "docs/job-lifecycle.md"), encoding: .utf8)
        let arrow = /^ +(\S+) --> (\S+): (\w+)$/.anchorsMatchLineEndings()
        let drawn = page.matches(of: arrow).map { "\($0.1) \($0.3) \($0.2)" }
        let arrows = JobEventType.allCases.flatMap { event in
            let from = event.from.isEmpty ? ["[*]"] : event.from.map { $0.rawValue.uppercased() }
            return from.map { "\($0) \(event.rawValue) \(event.to.rawValue.uppercased())" }
        }
        #expect(drawn.sorted() == arrows.sorted())
        let row = /^\| `(\w+)` \| (.*)→ `(\w+)` \|/.anchorsMatchLineEndings()
        let listed = page.matches(of: row).map { match in
            let from = match.2.matches(of: /`(\w+)`/).map { String($0.1) }
            return "\(match.1) \(from) \(match.3)"
        }
        let events = JobEventType.allCases.map { event in
            let from = event.from.map { $0.rawValue.uppercased() }
            return "\(event.rawValue.uppercased()) \(from) \(event.to.rawValue.uppercased())"
        }
        #expect(listed.sorted() == events.sorted())
    }

    @Test func everyStateIsEntered() {
        #expect(Set(JobEventType.allCases.map(\.to)) == Set(JobState.allCases))
    }

    @Test func finalStates() {
        #expect(JobState.allCases.filter(\.isFinal) == [.succeeded, .failed, .cancelled])
    }

    @Test func onlyRetryLeavesAFinalState() {
        for event in JobEventType.allCases where event != .retried {
            #expect(event.from.filter(\.isFinal).isEmpty)
        }
        #expect(!JobEventType.retried.from.contains(.succeeded))
    }

    @Test func storedNames() {
        #expect(
            JobEventType.allCases.map(\.rawValue) == [
                "enqueued", "started", "retry_scheduled", "released", "succeeded", "failed", "cancelled",
                "retried", "cancel_requested",
            ])
        #expect(
            JobState.allCases.map(\.rawValue) == ["pending", "running", "succeeded", "failed", "cancelled"])
    }
}
