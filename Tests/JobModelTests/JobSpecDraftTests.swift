import JobModel
import Support
import Testing

@Suite struct JobSpecDraftTests {
    private static let now = Timestamp(microseconds: 1_720_000_800_000_000)

    private func draft(_ change: (inout JobSpecDraft) -> Void = { _ in }) -> JobSpecDraft {
        var draft = JobSpecDraft()
        draft.kind = "mail.send"
        draft.userID = "ada"
        change(&draft)
        return draft
    }

    private func check(
        _ change: (inout JobSpecDraft) -> Void = { _ in }
    ) -> (spec: JobSpec?, violations: [FieldViolation]) {
        var violations: [FieldViolation] = []
        let spec = draft(change).validated(path: "job.", now: Self.now, into: &violations)
        return (spec, violations)
    }

    private func fields(_ change: (inout JobSpecDraft) -> Void) -> [String] {
        check(change).violations.map(\.field)
    }

    private func text(_ count: Int) -> ExactText { ExactText(String(repeating: "a", count: count)) }

    @Test func defaults() throws {
        let (valid, violations) = check()
        let spec = try #require(valid)
        #expect(violations.isEmpty)
        #expect(spec == JobSpec(kind: "mail.send", userID: "ada"))
        #expect(spec.queue == "default" && spec.contentType == "application/json")
        #expect(spec.maxAttempts == 3 && spec.priority == 0 && spec.due == .after(.zero))
        #expect(
            spec.retryPolicy == RetryPolicy(initialDelay: .seconds(5), factor: 2, maxDelay: .seconds(3600)))
        #expect(spec.jobID == nil && spec.idempotencyKey == nil && spec.timeout == nil)
    }

    @Test func everythingGiven() {
        let id = JobID("0197a0de-0000-4000-8000-00000000abcd")
        let (spec, violations) = check {
            $0.queue = "audio"
            $0.payload = Array("[1]".utf8)
            $0.contentType = "application/vnd.x+json"
            $0.jobID = "0197A0DE-0000-4000-8000-00000000ABCD"
            $0.idempotencyKey = "k"
            $0.priority = -7
            $0.delay = .seconds(3)
            $0.maxAttempts = 9
            $0.retryInitialDelay = .zero
            $0.retryFactor = 1
            $0.retryMaxDelay = .seconds(1)
            $0.retryJitter = 1
            $0.timeout = .seconds(2)
            $0.softTimeout = .seconds(1)
            $0.labels = [("a", "1"), ("a", "2"), ("b", "")]
        }
        #expect(violations.isEmpty)
        #expect(
            spec
                == JobSpec(
                    kind: "mail.send", userID: "ada", queue: "audio", payload: Array("[1]".utf8),
                    contentType: "application/vnd.x+json", jobID: id, idempotencyKey: "k", priority: -7,
                    due: .after(.seconds(3)), maxAttempts: 9,
                    retryPolicy: RetryPolicy(
                        initialDelay: .zero, factor: 1, maxDelay: .seconds(1), jitter: 1),
                    timeout: .seconds(2), softTimeout: .seconds(1), labels: ["a": "2", "b": ""]))
    }

    @Test func pathComesBeforeEachField() {
        var violations = [FieldViolation(field: "x", reason: .malformed, description: "was there")]
        _ = JobSpecDraft().validated(path: "jobs[3].", now: Self.now, into: &violations)
        #expect(violations.map(\.field) == ["x", "jobs[3].kind", "jobs[3].user_id"])
    }

    @Test func names() {
        #expect(fields { $0.kind = "" } == ["job.kind"])
        #expect(fields { $0.kind = text(128) } == [])
        #expect(fields { $0.kind = text(129) } == ["job.kind"])
        #expect(fields { $0.kind = "azAZ09._-/" } == [])
        for wrong in ["a b", "a:b", "é", "a\n", "@", "[", "`", "{", "a+b"] {
            #expect(fields { $0.kind = ExactText(wrong) } == ["job.kind"])
            #expect(fields { $0.queue = ExactText(wrong) } == ["job.queue"])
        }
        #expect(fields { $0.queue = text(128) } == [])
        #expect(fields { $0.queue = text(129) } == ["job.queue"])
    }

    @Test func texts() {
        #expect(fields { $0.userID = "" } == ["job.user_id"])
        #expect(fields { $0.userID = text(256) } == [])
        #expect(fields { $0.userID = text(257) } == ["job.user_id"])
        // Bytes, not characters.
        #expect(fields { $0.userID = ExactText(String(repeating: "é", count: 128)) } == [])
        #expect(fields { $0.userID = ExactText(String(repeating: "é", count: 128) + "a") } == ["job.user_id"])
        #expect(fields { $0.contentType = text(128) } == [])
        #expect(fields { $0.contentType = text(129) } == ["job.content_type"])
        #expect(fields { $0.idempotencyKey = text(256) } == [])
        #expect(fields { $0.idempotencyKey = text(257) } == ["job.idempotency_key"])
        #expect(fields { $0.jobID = "1" } == ["job.job_id"])
    }

    @Test func numbers() {
        for priority in [-100, 0, 100] { #expect(fields { $0.priority = priority } == []) }
        for priority in [-101, 101, .max, .min] {
            #expect(fields { $0.priority = priority } == ["job.priority"])
        }
        for attempts in [0, 1, 100] { #expect(fields { $0.maxAttempts = attempts } == []) }
        for attempts in [-1, 101] { #expect(fields { $0.maxAttempts = attempts } == ["job.max_attempts"]) }
        for factor in [1, 1.5, 100] { #expect(fields { $0.retryFactor = factor } == []) }
        for factor in [0, 0.99, -.infinity, 100.01, -1, .infinity, .nan] {
            #expect(fields { $0.retryFactor = factor } == ["job.retry_policy.factor"])
        }
        for jitter in [0, 0.5, 1] { #expect(fields { $0.retryJitter = jitter } == []) }
        for jitter in [-0.01, 1.01, .infinity, -.infinity, .nan] {
            #expect(fields { $0.retryJitter = jitter } == ["job.retry_policy.jitter"])
        }
    }

    @Test func moments() {
        let tenYears = JobLimits.delayMax
        let tick = Duration.microseconds(1)
        for delay in [Duration.zero, tenYears] { #expect(fields { $0.delay = delay } == []) }
        for delay in [.zero - tick, tenYears + tick] { #expect(fields { $0.delay = delay } == ["job.delay"]) }
        for moment in [Self.now.advanced(by: tenYears), Self.now, Timestamp(microseconds: 0)] {
            #expect(check { $0.runAt = moment }.spec?.due == .at(moment))
            #expect(fields { $0.runAt = moment } == [])
        }
        #expect(fields { $0.runAt = Self.now.advanced(by: tenYears + tick) } == ["job.run_at"])
    }

    @Test func durations() {
        let month = JobLimits.retryDelayMax
        let tick = Duration.nanoseconds(1)
        for delay in [Duration.zero, month] {
            #expect(fields { $0.retryInitialDelay = delay } == [])
            #expect(fields { $0.retryMaxDelay = delay } == [])
        }
        for delay in [.zero - tick, month + tick] {
            #expect(fields { $0.retryInitialDelay = delay } == ["job.retry_policy.initial_delay"])
            #expect(fields { $0.retryMaxDelay = delay } == ["job.retry_policy.max_delay"])
        }
        for timeout in [Duration.milliseconds(1), .seconds(30 * 86_400)] {
            #expect(fields { $0.timeout = timeout } == [])
            #expect(fields { $0.softTimeout = timeout } == [])
        }
        for timeout in [Duration.zero, .milliseconds(1) - tick, .seconds(30 * 86_400) + tick, .seconds(-1)] {
            #expect(fields { $0.timeout = timeout } == ["job.timeout"])
            #expect(fields { $0.softTimeout = timeout } == ["job.soft_timeout"])
        }
        #expect(
            fields {
                $0.timeout = .seconds(1)
                $0.softTimeout = .seconds(1)
            } == ["job.soft_timeout"])
        #expect(
            fields {
                $0.timeout = .seconds(1)
                $0.softTimeout = .milliseconds(999)
            } == [])
    }

    @Test func labels() {
        func many(_ count: Int) -> [(key: ExactText, value: ExactText)] {
            (0..<count).map { ("k\($0)", "v") }
        }
        #expect(fields { $0.labels = many(32) } == [])
        #expect(fields { $0.labels = many(33) } == ["job.labels"])
        #expect(fields { $0.labels = [(text(63), text(256))] } == [])
        #expect(fields { $0.labels = [(text(64), "")] } == ["job.labels"])
        #expect(fields { $0.labels = [("", "v")] } == ["job.labels"])
        #expect(fields { $0.labels = [("k", text(257))] } == ["job.labels"])
    }

    @Test func labelKeys() {
        for key in ["a", "Z", "0", "a.b_c-d/E", "signalbox", "signalboxes.a", "Signalbox.a", "a/"]
            as [ExactText]
        {
            #expect(fields { $0.labels = [(key, "é ä")] } == [])
        }
        let wrong: [ExactText] = [
            ".a", "_a", "-a", "/a", "a b", "é", "a:b", "a\u{0}", "signalbox.", "signalbox/a",
            "signalbox.queue",
        ]
        for key in wrong {
            let violations = check { $0.labels = [(key, "")] }.violations
            #expect(violations.map(\.field) == ["job.labels"] && violations[0].reason == .malformed)
        }
        // A filter has the same rule.
        var filter = FieldCheck(path: "filter.")
        filter.labels([("signalbox.a", ""), ("b", "")], countMax: 1)
        #expect(filter.violations.map(\.field) == ["filter.labels", "filter.labels"])
    }

    @Test func payloads() {
        #expect(fields { $0.payload = Array("{\"a\":1}".utf8) } == [])
        #expect(fields { $0.payload = Array("{a:1}".utf8) } == ["job.payload"])
        #expect(
            fields {
                $0.payload = Array("no json".utf8)
                $0.contentType = "text/plain"
            } == [])
        #expect(
            fields {
                $0.payload = [0xFF]
                $0.contentType = "Application/JSON; charset=utf-8"
            } == ["job.payload"])
    }
}

@Suite struct MediaTypeTests {
    @Test(arguments: [
        "application/json", "Application/JSON", "application/json;charset=utf-8",
        "application/json ; charset=utf-8", "application/ld+json", "image/svg+JSON; a=b",
    ])
    func json(_ type: ExactText) {
        #expect(MediaType.isJSON(type))
    }

    @Test(arguments: [
        "", ";", "application/jsonl", "application/json-seq", "text/plain", "application/x-json", "json",
        "text/plain;application/json", "application/octet-stream",
    ])
    func other(_ type: ExactText) {
        #expect(!MediaType.isJSON(type))
    }
}
