import ArgumentParser
import JobModel
import NIOCore
import SignalboxProto
import GRPC
import Support
import Synchronization
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
        // A page may be empty.
        #expect(table.text([]) == "" && table.text([["b", "2", ""]]) == "b       2\n")
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
        let capped = QueueRecord(name: "q", isPaused: true, stats: QueueStats(queue: "q", isCapped: true))
        #expect(StatsCommand.row(capped).last == "paused, not all counted")
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

    @Test func aStabilityThatIsNotKnown() {
        let info = Self.info { $0.features = [ServerFeature(name: "new", stability: nil, isEnabled: true)] }
        #expect(ServerInfoCommand.lines(info).contains("  new  UNSPECIFIED   enabled"))
    }
}

@Suite struct JSONTests {
    @Test func oneLineForEachMessageOfAField() throws {
        let jobs = [Sample.job(), Sample.job(id: Sample.other)]
        let bytes = ListJobsResponse(jobs: jobs, nextPageToken: "next").encode()
        let lines = try JSONOutput.lines(bytes, of: ListJobsResponse.self, in: "jobs")
        #expect(lines.count == 2)
        #expect(
            lines[0].hasPrefix(
                #"{"id":"\#(Sample.id)","kind":"test.sleep","user_id":"ada","queue":"default","#))
        #expect(lines[0].contains(#""state":"JOB_STATE_RUNNING","sequence":"2","#))
        #expect(lines[1].contains("\(Sample.other)"))
    }

    @Test func nothingInItDrivesTheTerminal() throws {
        let line = LogLine(
            number: 1, at: Sample.start, attempt: 1, level: .info, message: "\u{1B}\u{9B}\u{2028}\u{E0041}é\""
        )
        let bytes = ListLogLinesResponse(lines: [line], nextPageToken: "").encode()
        #expect(
            try JSONOutput.lines(bytes, of: ListLogLinesResponse.self, in: "lines") == [
                #"{"number":"1","at":"2024-07-03T10:00:00Z","attempt":1,"level":"LOG_LEVEL_INFO","#
                    + #""message":"\u001b\u009b\u2028\udb40\udc41é\""}"#
            ])
    }

    @Test func whatIsNoMessageIsAnErrorOfTheServer() {
        let error = #expect(throws: Status.self) {
            try JSONOutput.lines(ByteBuffer(bytes: [0x0A]), of: ListJobsResponse.self)
        }
        #expect(error?.code == .internalError)
    }

    /// A watch prints what the server has sent, also what this version does not know, and else what it has made of it.
    @Test func messagesOfAWatch() async throws {
        let lines = Mutex<[String]>([])
        let printer = WatchPrinter(.json) { line in lines.withLock { $0.append(line) } }
        try await printer.show(.removed(Sample.id))
        let sent = WatchResponse(.snapshotsComplete, resumeToken: "t").encode()
        try await printer.show(.snapshotsComplete, bytes: sent)
        #expect(
            lines.withLock { $0 } == [
                #"{"removed":{"job_id":"\#(Sample.id)"}}"# + "\n",
                #"{"snapshots_complete":{},"resume_token":"t"}"# + "\n",
            ])
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
        let bytes = GetJobResponse(job: job, includePayload: true).encode()
        lines += try JSONOutput.lines(bytes, of: GetJobResponse.self, in: "job")
        #expect(lines.count > 20)
        for line in lines {
            #expect(line.unicodeScalars.allSatisfy { !PrintableText.isUnprintable($0) }, "\(line)")
        }
    }

    @Test func timesAndDurations() {
        #expect(Timestamp(microseconds: 1).text == "1970-01-01T00:00:00.000001Z")
        #expect(Timestamp(microseconds: -500_000).text == "1969-12-31T23:59:59.500Z")
        let brief = [0.45, 12.9, 65, 3605, 100_000].map { Duration.milliseconds(Int64($0 * 1000)).brief }
        #expect(brief == ["0.4s", "12s", "1:05", "1:00:05", "1d 3h"])
    }

    @Test func linesOfAWatch() {
        #expect(
            WatchLine.lines(for: .lifecycle(Sample.event(.started, sequence: 2)))
                == ["\(Sample.id) STARTED attempt 1 on node-a"])
        #expect(
            WatchLine.lines(for: .lifecycle(Sample.event(.cancelRequested, sequence: 3)))
                == ["\(Sample.id) CANCEL_REQUESTED attempt 1"])
        #expect(WatchLine.lines(for: .removed(Sample.id)) == ["\(Sample.id) REMOVED"])
        // The type comes from a newer server.
        var event = Sample.event(.started, sequence: 4)
        event.type = nil
        #expect(
            WatchLine.lines(for: .lifecycle(event)) == ["\(Sample.id) CHANGED to RUNNING attempt 1"])
        var unknown = Sample.progress(0)
        unknown.fraction = nil
        #expect(
            WatchLine.lines(for: .progress(Sample.id, attempt: 1, unknown))
                == ["\(Sample.id) synthesis 3/7 Speaking"])
        #expect(
            WatchLine.lines(for: .progress(Sample.id, attempt: 1, Sample.progress(0.999)))
                == ["\(Sample.id)  99% synthesis 3/7 Speaking"])
        #expect(
            WatchLine.lines(for: .snapshot(Sample.job(.failed)))
                == [
                    "\(Sample.id) FAILED test.sleep, attempt 1 (1 of 3 used), handler permanent: no such voice"
                ])
    }

    @Test func aJobWithItsHistory() {
        var job = Sample.job(.failed)
        job.spec.payload = Array(#"{"ms":5}"#.utf8)
        job.attempts = [
            Attempt(
                number: 1, node: "node-a", startedAt: Sample.start,
                endedAt: Sample.start.advanced(by: .seconds(2)), outcome: .timedOut,
                error: JobError(reason: "", message: "", cause: .timeout)),
            Attempt(
                number: 2, node: "", startedAt: Sample.start, endedAt: nil, outcome: nil,
                error: JobError(reason: "odd", message: "m", cause: nil), isCounted: false),
        ]
        let lines = JobText.lines(job, includesPayload: true)
        #expect(lines.contains("error:    handler permanent: no such voice"))
        #expect(lines.contains(#"payload:  {"ms":5}"#))
        #expect(lines.contains("attempts: 1 of 3 used, 1 started"))
        #expect(
            lines.suffix(2) == [
                "  1  2024-07-03T10:00:00Z  node-a  TIMED_OUT after 2s, timeout",
                "  2  2024-07-03T10:00:00Z  UNKNOWN (not counted), unknown cause (odd): m",
            ])
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
