import ArgumentParser
import JobModel
import SignalboxProto
import GRPC
import Support
import Testing

@testable import ClientCommands

@Suite struct TableTests {
    @Test func columnsLineUp() {
        var table = Table([.init("NAME"), .init("N", alignsRight: true), .init("WHAT", max: 5)])
        #expect(
            table.lines([["a", "1", "short"], ["長い", "100", "much longer"]]) == [
                "NAME    N  WHAT", "a       1  short", "長い  100  much…",
            ])
        #expect(table.lines([["b", "2", ""]]) == ["b       2"])
    }

    @Test func aJobsRow() {
        let progress = Sample.progress(0.42)
        #expect(
            ListCommand.row(Sample.job(progress: progress)) == [
                Sample.id.description, "test.sleep", "ada", "default", "RUNNING", "1/3",
                "2024-07-03T10:00:00Z", " 42% synthesis 3/7 Speaking",
            ])
    }

    @Test func statsWithAnything() {
        var stats = QueueStats(queue: "q")
        stats.enqueuedPerSecond = .infinity
        stats.finishedPerSecond = 12.34
        let queue = QueueRecord(name: "q", isPaused: true, stats: stats)
        #expect(StatsCommand.row(queue).suffix(4) == ["-", "?", "12.3", "paused"])
    }
}

@Suite struct ServerInfoTests {
    private static func info(_ change: (inout GetServerInfoResponse) -> Void = { _ in })
        -> GetServerInfoResponse
    {
        var info = GetServerInfoResponse(
            version: "1.2", apiPackages: ["signalbox.v1"],
            features: [ServerFeature(name: "graphs", stability: .experimental, isEnabled: false)],
            limits: ServerLimits(
                payloadBytesMax: 1, resultBytesMax: 2, batchJobsMax: 3, batchBytesMax: 4, watchedJobsMax: 5,
                pageSizeMax: 6, checkpointBytesMax: 7, logLinesKept: 8, labelsMax: 9,
                heartbeatInterval: .seconds(15), retention: .seconds(7 * 86_400), waitMax: nil,
                eventResultBytesMax: 13),
            at: Sample.start, node: "",
            caller: CallerInfo(
                name: "c\u{1B}", source: "token", scopes: ["admin", "jobs.read"], hasAllUsers: false,
                users: ["ada", "bob"]))
        change(&info)
        return info
    }

    @Test func forPeople() {
        #expect(
            ServerInfoCommand.lines(Self.info()) == [
                "version:  1.2", "API:      signalbox.v1", "time:     2024-07-03T10:00:00Z",
                "caller:   c\\u{1B} (token)", "scopes:   admin jobs.read", "users:    ada bob", "",
                "Features:", "  graphs  EXPERIMENTAL  disabled", "", "Limits:",
                "  payload            1 bytes", "  result             2 bytes",
                "  result in events   13 bytes", "  batch              3 jobs, 4 bytes",
                "  watch              5 jobs", "  page               6 jobs",
                "  checkpoint         7 bytes", "  log                8 lines",
                "  labels             9", "  heartbeats         every 15s",
                "  retention          7d 0h",
            ])
    }

    @Test func withoutCredentials() {
        let info = Self.info {
            $0.node = "n"
            $0.features = []
            $0.limits.waitMax = .seconds(30)
            $0.caller = CallerInfo(name: "", source: "none", scopes: [], hasAllUsers: true, users: [])
        }
        let lines = ServerInfoCommand.lines(info)
        #expect(
            lines[2...6] == [
                "node:     n", "time:     2024-07-03T10:00:00Z",
                "caller:   (the server requires no credentials)",
                "scopes:   (none)", "users:    (all)",
            ])
        #expect(!lines.contains("Features:") && lines.last == "  wait               30s")
    }

    @Test func json() throws {
        #expect(
            try JSONLine.text(ServerInfoView(Self.info())) == """
                {"api_packages":["signalbox.v1"],"at":"2024-07-03T10:00:00Z",\
                "caller":{"all_users":false,"name":"c\\u001b","scopes":["admin","jobs.read"],\
                "source":"token","users":["ada","bob"]},\
                "features":[{"enabled":false,"name":"graphs","stability":"EXPERIMENTAL"}],\
                "limits":{"heartbeat_interval":"15s","kept_log_lines":8,"max_batch_bytes":4,\
                "max_batch_jobs":3,"max_checkpoint_bytes":7,"max_event_result_bytes":13,"max_labels":9,\
                "max_page_size":6,"max_payload_bytes":1,"max_result_bytes":2,"max_watched_jobs":5,\
                "retention":"604800s"},"version":"1.2"}
                """)
    }
}

@Suite struct JSONTests {
    @Test func aJob() throws {
        var job = Sample.job(.succeeded, sequence: 3, progress: Sample.progress(1))
        job.spec.labels = ["someKey": "v/1"]
        job.spec.timeout = .milliseconds(1500)
        job.result = JobResult(
            data: Array(#"{"aB":[1,2.5,null,true,18446744073709551615]}"#.utf8),
            contentType: "application/json")
        #expect(
            try JSONLine.text(JobView(job)) == """
                {"attempt":1,"cancel_requested":false,"content_type":"application/json",\
                "created_at":"2024-07-03T10:00:00Z","due_at":"2024-07-03T10:00:00Z",\
                "finished_at":"2024-07-03T10:00:12.500Z","id":"\(Sample.id)","kind":"test.sleep",\
                "labels":{"someKey":"v/1"},"max_attempts":3,"priority":0,\
                "progress":{"fraction":1,"message":"Speaking","stage":"synthesis","step":3,"steps":7,\
                "updated_at":"2024-07-03T10:00:00Z"},"queue":"default",\
                "result":{"content_type":"application/json",\
                "json":{"aB":[1,2.5,null,true,18446744073709551615]}},\
                "retry_policy":{"factor":2,"initial_delay":"5s","jitter":0,"max_delay":"3600s"},\
                "sequence":3,"started_at":"2024-07-03T10:00:00Z","state":"SUCCEEDED","timeout":"1.500s",\
                "user_id":"ada"}
                """)
    }

    @Test func bytesAsWhatTheyAre() throws {
        func text(_ bytes: [UInt8], _ type: String) throws -> String {
            try JSONLine.text(ResultView(JobResult(data: bytes, contentType: ExactText(type))))
        }
        #expect(try text(Array("null".utf8), "application/json").contains(#""json":null"#))
        #expect(try text(Array("{".utf8), "application/json").contains(#""text":"{""#))
        #expect(try text(Array("hi".utf8), "text/plain").contains(#""text":"hi""#))
        #expect(try text([0xFF, 0x00], "audio/mpeg").contains(#""base64":"/wA=""#))
        #expect(try text([], "audio/mpeg") == #"{"content_type":"audio/mpeg"}"#)
    }

    private func payload(_ bytes: [UInt8]) throws -> String {
        var job = Sample.job(.succeeded)
        job.spec.payload = bytes
        job.spec.contentType = "application/json"
        let line = try JSONLine.text(JobView(job, payload: true))
        let start = try #require(line.utf8.firstRange(of: #""payload":{"json":"#.utf8)).upperBound
        let end = try #require(line.utf8.firstRange(of: #"},"priority""#.utf8)).lowerBound
        return String(decoding: line.utf8[start..<end], as: UTF8.self)
    }

    /// It stays one line, and no number is rounded.
    @Test(arguments: [
        (" null\n", "null"), ("1e400", "1e400"), ("0.10", "0.10"),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ("{ \"a b\" :\r\n\t[ 1 , \" \\\" [ \\\\\" , { } ] }", #"{"a b":[1," \" [ \\",{}]}"#),
        (#"{"a":1,"a":2}"#, #"{"a":1,"a":2}"#), (#""\ud800""#, #""\ud800""#),
        ("\"\u{9B}\u{2028}\u{E0041}é\"", #""\u009b\u2028\udb40\udc41é""#),
    ])
    func jsonIsPrintedAsItIs(json: String, printed: String) throws {
        #expect(try payload(Array(json.utf8)) == printed)
    }

    @Test func bothAPayloadAndAResult() throws {
        var job = Sample.job(.succeeded)
        job.spec.payload = Array("[1]".utf8)
        job.spec.contentType = "application/json"
        job.result = JobResult(data: Array("[2]".utf8), contentType: "application/json")
        let line = try JSONLine.text(JobView(job, payload: true))
        #expect(line.contains(#""payload":{"json":[1]}"#))
        #expect(line.contains(#""result":{"content_type":"application/json","json":[2]}"#))
    }

    /// Decoding it takes minutes.
    @Test(.timeLimit(.minutes(3))) func deepJSONTakesNoLongerThanOther() throws {
        let leaves = String(repeating: "[],", count: 299_999) + "[]"
        let json = String(repeating: "[", count: 119) + leaves + String(repeating: "]", count: 119)
        #expect(try payload(Array(json.utf8)).utf8.elementsEqual(json.utf8))
    }

    @Test func messagesOfAWatch() throws {
        let event = Sample.event(
            .retryScheduled, sequence: 3, error: JobError(message: "boom", cause: .handler))
        #expect(
            try JSONLine.text(WatchView(.lifecycle(event))) == """
                {"lifecycle":{"at":"2024-07-03T10:00:03Z","attempt":1,\
                "error":{"message":"boom","reason":"failed"},"job_id":"\(Sample.id)","kind":"test.sleep",\
                "node":"node-a","queue":"default","sequence":3,"state":"PENDING",\
                "type":"RETRY_SCHEDULED","user_id":"ada"}}
                """)
        #expect(
            try JSONLine.text(WatchView(.snapshotsComplete))
                == #"{"heartbeat":{"at":"2024-07-03T10:00:00Z","snapshot_complete":true}}"#)
        #expect(WatchView(.other) == nil)
    }

    @Test func aNode() throws {
        let node = NodeRecord(
            id: Sample.id.uuid, name: "n", version: "1", startedAt: Sample.start,
            heartbeatAt: Sample.start, isAlive: true, concurrency: 4, kinds: ["k"], running: 1,
            runningJobs: [Sample.other])
        #expect(
            try JSONLine.text(NodeView(node)) == """
                {"alive":true,"concurrency":4,"id":"\(Sample.id)","kinds":["k"],\
                "last_heartbeat_at":"2024-07-03T10:00:00Z","name":"n","running":1,\
                "running_job_ids":["\(Sample.other)"],"started_at":"2024-07-03T10:00:00Z","version":"1"}
                """)
    }
}

@Suite struct TextTests {
    @Test func widthsAreThoseOfATerminal() {
        #expect("abc".columns == 3)
        #expect("日本".columns == 4)
        #expect("日本語".cut(toColumns: 5) == "日本…")
        #expect("e\u{301}".columns == 1)
        #expect("abc".cut(toColumns: 3) == "abc")
        #expect("abcd".cut(toColumns: 3) == "ab…")
        #expect("abc".cut(toColumns: 0) == "")
        #expect("ae\u{301}bc".cut(toColumns: 3) == "ae\u{301}…")
        #expect("👍🏽".columns == 2)
    }

    /// Every text of a job that another user has written, on the terminal of an operator.
    @Test func nothingOfAJobDrivesTheTerminal() throws {
        let evil = "\u{1B}]0;x\u{7}\u{9B}2J\r\n\u{202E}\u{200B}\u{61C}\u{85}\u{2028}"
        let error = JobError(reason: evil, message: evil, cause: .handler)
        var job = Sample.job(.failed, sequence: 3, progress: Sample.progress(0.5, message: evil))
        job.spec.kind = "k" + evil
        job.spec.payload = Array(evil.utf8)
        job.error = error
        job.result = JobResult(data: Array(evil.utf8), contentType: "text/plain")
        job.log = [LogLine(number: 1, at: Sample.start, attempt: 1, level: .info, message: evil)]
        job.attempts = [
            Attempt(
                number: 1, node: evil, startedAt: Sample.start, endedAt: nil, outcome: .failed, error: error)
        ]
        var table = ListCommand.table
        var lines = JobText.lines(job, includesPayload: true) + table.lines([ListCommand.row(job)])
        lines += WatchLine.lines(for: .snapshot(job))
        lines += WatchLine.lines(for: .log(job.id, job.log))
        lines += WatchLine.lines(
            for: .lifecycle(Sample.event(.retryScheduled, sequence: 3, error: error)))
        lines += Status(.notFound, evil).explanation
        for style in [true, false] {
            var board = ProgressBoard()
            var running = job
            running.state = style ? .running : .failed
            board.apply(.snapshot(running))
            board.apply(.log(job.id, job.log))
            lines += board.bars(now: Sample.start, columns: 200, rows: 24) + board.takeLines()
        }
        lines.append(try JSONLine.text(JobView(job, history: true, payload: true)))
        #expect(lines.count > 20)
        for line in lines {
            #expect(line.unicodeScalars.allSatisfy { !PrintableText.isUnprintable($0) }, "\(line)")
        }
    }

    @Test func timesAndDurations() {
        #expect(Timestamp(microseconds: 1).text == "1970-01-01T00:00:00.000001Z")
        #expect(Timestamp(microseconds: -500_000).text == "1969-12-31T23:59:59.500Z")
        #expect(Duration.seconds(5).text == "5s")
        #expect(Duration.microseconds(250_001).text == "0.250001s")
        #expect(Duration.milliseconds(-1500).text == "-1.500s")
        let brief = [0.45, 12.9, 65, 3605, 100_000].map { Duration.milliseconds(Int64($0 * 1000)).brief }
        #expect(brief == ["0.4s", "12s", "1:05", "1:00:05", "1d 3h"])
    }

    @Test func linesOfAWatch() {
        #expect(
            WatchLine.lines(for: .lifecycle(Sample.event(.started, sequence: 2)))
                == ["\(Sample.id) STARTED attempt 1 on node-a"])
        #expect(
            WatchLine.lines(for: .progress(Sample.id, attempt: 1, Sample.progress(0.999)))
                == ["\(Sample.id)  99% synthesis 3/7 Speaking"])
        #expect(
            WatchLine.lines(for: .snapshot(Sample.job(.failed)))
                == ["\(Sample.id) FAILED test.sleep, attempt 1 of 3, permanent: no such voice"])
    }

    @Test func aJobWithItsHistory() {
        var job = Sample.job(.failed)
        job.spec.payload = Array(#"{"ms":5}"#.utf8)
        job.attempts = [
            Attempt(
                number: 1, node: "node-a", startedAt: Sample.start,
                endedAt: Sample.start.advanced(by: .seconds(2)), outcome: .timedOut,
                error: JobError(message: "", cause: .timeout))
        ]
        let lines = JobText.lines(job, includesPayload: true)
        #expect(lines.contains("error:    permanent: no such voice"))
        #expect(lines.contains(#"payload:  {"ms":5}"#))
        #expect(lines.last == "  1  2024-07-03T10:00:00Z  node-a  TIMED_OUT after 2s, timeout")
    }

    @Test func anErrorNamesItsFields() {
        let details = StatusDetails(
            code: 3, message: "wrong",
            badRequest: [
                .init(field: "job.kind", reason: "REQUIRED", description: "is required")
            ])
        let status = Status(.invalidArgument, "wrong", details: details.encode())
        #expect(status.explanation == ["invalid argument: wrong", "  job.kind: is required"])
        #expect(Status(.unavailable, "", details: [0xFF]).explanation == ["unavailable"])
    }

    @Test func codesOfExit() {
        for code in Status.Code.allCases {
            let expected: Int32 =
                switch code {
                case .notFound: 3
                case .unavailable, .deadlineExceeded: 4
                default: 5
                }
            #expect(Status(code).exitCode.rawValue == expected)
        }
    }
}
