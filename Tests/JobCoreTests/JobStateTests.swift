import JobCore
import Testing

@Suite struct JobStateTests {
    /// Every arrow there is; all others are refused.
    private static let arrows: [JobState: [JobEventType: JobState]] = [
        .pending: [.started: .running, .cancelled: .cancelled],
        .running: [
            .retryScheduled: .pending, .released: .pending, .succeeded: .succeeded, .failed: .failed,
            .cancelled: .cancelled,
        ],
        .succeeded: [:],
        .failed: [.retried: .pending],
        .cancelled: [.retried: .pending],
    ]

    @Test(arguments: JobState.allCases, JobEventType.allCases)
    func arrow(from state: JobState, by event: JobEventType) {
        #expect(state.after(event) == Self.arrows[state]?[event])
    }

    @Test func finalStates() {
        #expect(JobState.allCases.filter(\.isFinal) == [.succeeded, .failed, .cancelled])
    }

    @Test func onlyRetryLeavesAFinalState() {
        for state in JobState.allCases where state.isFinal {
            for event in JobEventType.allCases where event != .retried { #expect(state.after(event) == nil) }
        }
    }

    @Test func storedNames() {
        #expect(
            JobEventType.allCases.map(\.rawValue) == [
                "enqueued", "started", "retry_scheduled", "released", "succeeded", "failed", "cancelled",
                "retried",
            ])
        #expect(
            JobState.allCases.map(\.rawValue) == ["pending", "running", "succeeded", "failed", "cancelled"])
    }
}
