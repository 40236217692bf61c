import JobModel
import JobEngine
import Support
import Testing

@Suite struct TestRunnersTests {
    private func text(_ result: JobResult) -> String {
        String(decoding: result.data, as: UTF8.self)
    }

    @Test func kindsAreDistinctAndTimed() {
        #expect(
            TestRunners.all(on: .system).map(\.definition.kind) == [
                "test.echo", "test.noop", "test.sleep", "test.fail",
            ])
        #expect(
            TestRunners.all(on: .system).map(\.definition.timeout)
                == [.seconds(60), .seconds(60), .seconds(3600), .seconds(60)])
    }

    @Test func echoAndNoop() async throws {
        let run = FakeRun(payload: "hello", contentType: "text/plain")
        #expect(
            try await TestEchoRunner().run(run)
                == JobResult(data: Array("hello".utf8), contentType: "text/plain"))
        #expect(text(try await TestNoopRunner().run(run)) == "null")
    }

    @Test func sleepsInSteps() async throws {
        let run = FakeRun(kind: "test.sleep", payload: #"{"ms":4,"steps":2}"#)
        #expect(try await text(TestSleepRunner(on: .system).run(run)).contains(#""slept_ms":4"#))
        #expect(
            run.said == [
                .progress(stage: "sleeping", fraction: 0.5, message: "", done: 1, total: 2),
                .checkpoint(#"{"step":1}"#),
                .progress(stage: "sleeping", fraction: 1, message: "", done: 2, total: 2),
                .checkpoint(#"{"step":2}"#),
            ])
    }

    @Test func sleepGoesOnFromItsCheckpoint() async throws {
        let run = FakeRun(
            kind: "test.sleep", attempt: 2, payload: #"{"ms":4,"steps":4}"#, checkpoint: #"{"step":3}"#)
        let result = text(try await TestSleepRunner(on: .system).run(run))
        #expect(result.contains(#""slept_ms":1"#) && result.contains(#""resumed_from_step":3"#))
        #expect(run.said.count == 2)
    }

    @Test func sleepEndsWhenCancelled() async throws {
        let run = FakeRun(kind: "test.sleep", payload: #"{"ms":3600000}"#)
        let task = Task { try await TestSleepRunner(on: .system).run(run) }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Test(arguments: ["", "[]", #"{"ms":-1}"#, #"{"ms":1,"steps":0}"#, #"{"ms":3600001}"#])
    func aBadPayloadFailsForGood(_ payload: String) async throws {
        let run = FakeRun(kind: "test.sleep", payload: payload)
        let failure = try await #require(throws: RunFailure.self) {
            try await TestSleepRunner(on: .system).run(run)
        }
        #expect(failure.isPermanent && failure.reason.isEmpty)
    }

    @Test func failsAsOftenAsAsked() async throws {
        let payload = #"{"times":2,"retry_after_ms":10}"#
        for attempt in 1...2 {
            let failure = try await #require(throws: RunFailure.self) {
                try await TestFailRunner().run(FakeRun(attempt: attempt, payload: payload))
            }
            #expect(failure.retryAfter == .milliseconds(10) && !failure.isPermanent)
        }
        let result = try await TestFailRunner().run(FakeRun(attempt: 3, payload: payload))
        #expect(text(result) == #"{"attempt":3}"#)
        let permanent = try await #require(throws: RunFailure.self) {
            try await TestFailRunner().run(FakeRun(payload: #"{"permanent":true}"#))
        }
        #expect(permanent.isPermanent)
    }
}
