import JobModel
import JobEngine
import Support
import Testing

@Suite struct CommandOutputTests {
    private func records(_ line: String) -> [CommandRecord] {
        CommandOutput.records(in: LineSplitter.Line(bytes: Array(line.utf8), isCut: false))
    }

    @Test func readsEveryRecord() {
        #expect(
            records(#"{"progress":{"stage":"speak","fraction":0.5,"message":"m","done":1,"total":4}}"#)
                == [
                    .progress(
                        CommandProgress(stage: "speak", fraction: 0.5, message: "m", done: 1, total: 4))
                ])
        #expect(records(#"{"log":"text"}"#) == [.log(.info, "text")])
        #expect(records(#"{"log":{"level":"warn","message":"text"}}"#) == [.log(.warning, "text")])
        #expect(records(#"{"retry_after_ms": 1500}"#) == [.retryAfter(.milliseconds(1500))])
        #expect(
            records(#"{"error":{"reason":"no_voice","message":"m"}}"#)
                == [.error(reason: "no_voice", message: "m")])
        #expect(
            records(#"{"result_base64":"AAE=","content_type":"audio/mpeg"}"#)
                == [.result(JobResult(data: [0, 1], contentType: "audio/mpeg"))])
    }

    @Test func keepsTheTextOfCheckpointsAndResults() {
        let value = #"{"b": 12345678901234567890, "a":[1.10, "}\",{"], "é":null}"#
        #expect(records("  {\"checkpoint\" : \(value) }") == [.checkpoint(Array(value.utf8))])
        #expect(
            records("{\"x\":1,\"result\":\(value)}")
                == [.result(JobResult(data: Array(value.utf8), contentType: "application/json"))])
        #expect(
            records(#"{"result":null}"#)
                == [.result(JobResult(data: Array("null".utf8), contentType: "application/json"))])
    }

    @Test func computesTheFractionFromTheUnitsDone() {
        #expect(
            records(#"{"progress":{"done":1,"total":4}}"#)
                == [.progress(CommandProgress(fraction: 0.25, done: 1, total: 4))])
        // Without a total it is not known.
        #expect(
            records(#"{"progress":{"done":1}}"#)
                == [.progress(CommandProgress(fraction: nil, done: 1))])
    }

    @Test(arguments: [
        ("-1", 0), ("2.9", 2), ("5000000000", 5_000_000_000), ("1e300", Int64.max), ("null", 0),
    ])
    func countsInUnitsOf64Bits(_ text: String, _ done: Int64) {
        #expect(records(#"{"progress":{"done":\#(text)}}"#) == [.progress(CommandProgress(done: done))])
    }

    @Test func takesSeveralFromOneLine() {
        #expect(
            records(#"{"checkpoint":{"step":2},"progress":{"done":2,"total":2}}"#)
                == [
                    .progress(CommandProgress(fraction: 1, done: 2, total: 2)),
                    .checkpoint(Array(#"{"step":2}"#.utf8)),
                ])
    }

    @Test(arguments: [
        "plain text", "{", "{}", "[1]", #"{"other":1}"#, #"{"progress":1}"#, #"{"log":"a"} tail"#,
        #"{"retry_after_ms":-1}"#, #"{"log":"\ud800"}"#,
    ])
    func whatIsNoRecordIsALogLine(_ line: String) {
        #expect(records(line) == [.log(.info, line)])
    }

    @Test func refusesWhatIsOverALimit() {
        let text = String(repeating: "x", count: JobLimits.resultBytesMax)
        for line in [
            "{\"result\":\"\(text)\"}",
            "{\"checkpoint\":\"\(text.prefix(JobLimits.checkpointBytesMax))\"}",
            #"{"result_base64":"?"}"#,
            #"{"result_base64":"","content_type":""}"#,
        ] {
            guard case .violation = records(line).first else {
                Issue.record("no violation: \(line.prefix(40))")
                continue
            }
        }
        let cut = LineSplitter.Line(bytes: Array("{\"result\":\"xxx".utf8), isCut: true)
        #expect(
            CommandOutput.records(in: cut)
                == [.violation("a line with \"result\" is longer than 2097152 bytes")])
        let other = LineSplitter.Line(bytes: Array("{\"rest\":\"xxx".utf8), isCut: true)
        #expect(CommandOutput.records(in: other) == [.log(.info, "{\"rest\":\"xxx")])
    }

    @Test func splitsAndBoundsLines() {
        var splitter = LineSplitter(recordBytesMax: 10, textBytesMax: 4)
        var lines: [String] = []
        let note = { (line: LineSplitter.Line) in
            lines.append(String(decoding: line.bytes, as: UTF8.self) + (line.isCut ? "…" : ""))
        }
        splitter.feed("ab".utf8, each: note)
        splitter.feed("c\r\n\n  \nabcdef\n {23456789\n{2345678901\nend".utf8, each: note)
        if let last = splitter.finish() { note(last) }
        #expect(lines == ["abc", "abcd…", " {23456789", "{234567890…", "end"])
        #expect(splitter.finish() == nil)
    }

    /// Of a key, a level or a content type with so many marks that Swift would take seconds to compare it.
    @Test(.timeLimit(.minutes(3))) func marksAreNotCompared() {
        let marks = "a" + String(repeating: "\u{345}\u{334}", count: 64_000)
        func isViolation(_ line: String) -> Bool {
            let all = records(line)
            if all.count == 1, case .violation(let text) = all[0] {
                return text.contains("more than 1024 bytes")
            }
            return false
        }
        #expect(isViolation("{\"result\":{\"\(marks)\":1}}") && isViolation("{\"\(marks)\":1,\"log\":\"m\"}"))
        let level = "{\"log\":{\"message\":\"m\",\"level\":\"\(marks)\"}}"
        #expect(records(level) == [.log(.info, "m")])
        // A line of somebody else's is a line of the log, of which no more is kept anyway.
        guard case .log(.info, let text)? = records("{\"\(marks)\":1}").first else {
            Issue.record("no log line")
            return
        }
        #expect(text.utf8.count <= JobLimits.logMessageBytesMax + 4)
    }

    @Test func theWordsOfALevel() {
        let levels: [(String, LogLine.Level)] = [
            ("TRACE", .debug), ("Debug", .debug), ("Warning", .warning), ("FATAL", .error), ("notice", .info),
        ]
        for (name, level) in levels {
            #expect(records("{\"log\":{\"level\":\"\(name)\",\"message\":\"m\"}}") == [.log(level, "m")])
        }
    }

    @Test(arguments: [#"a\nb"#, #"\u001b[1m"#, "", #"\u0080"#])
    func contentTypesAreOneLineOfText(_ type: String) {
        let all = records(#"{"result_base64":"","content_type":""# + type + "\"}")
        if case .violation? = all.first {} else { Issue.record("\(all)") }
    }
}
