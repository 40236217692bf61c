import Foundation
import Logging
import Support
import Synchronization
import Testing

@testable import Signalbox

/// What was written. A stream of swift-log writes each event at once.
private final class Output: TextOutputStream, Sendable {
    private let texts = Mutex<[String]>([])

    var all: [String] { texts.withLock { $0 } }

    func write(_ text: String) {
        texts.withLock { $0.append(text) }
    }
}

@Suite struct ServerLogTests {
    private struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private let evil =
        "bob\n2030-01-01T00:00:00+0000 info signalbox: [Forged] \u{1B}[2J\u{9B}1m\u{7F}\u{2028}\u{202E}\u{200B}\r"

    private func loggers(_ output: Output) -> [Logger] {
        let text = Logger(label: "signalbox") { label in
            TextLogHandler(StreamLogHandler(label: label, stream: output, metadataProvider: nil))
        }
        let json = Logger(label: "signalbox") { _ in
            JSONLogHandler { output.write(String(decoding: $0, as: UTF8.self)) }
        }
        return [text, json]
    }

    @Test func anEventIsOneLineWhateverIsInIt() {
        for index in 0..<2 {
            let output = Output()
            var logger = loggers(output)[index]
            logger[metadataKey: "of" + evil] = "\(evil)"
            logger.info("hello \(evil)", metadata: ["user": "\(evil)", evil: "x", "list": ["\(evil)"]])
            logger.error("failed", error: Failure(description: evil))
            #expect(output.all.count == 2)
            for text in output.all {
                #expect(text.utf8.last == UInt8(ascii: "\n"))
                let line = text.unicodeScalars.dropLast()
                #expect(line.allSatisfy { !PrintableText.isUnprintable($0) }, "\(text)")
            }
        }
    }

    /// As swift-log's own.
    @Test func theFormatOfText() throws {
        let output = Output()
        var logger = loggers(output)[0]
        logger[metadataKey: "node"] = "one"
        logger.warning("a \\ b\n", metadata: ["user": "a\tb", "job": "1"])
        logger.debug("not written")
        let line = try #require(output.all.first)
        #expect(output.all.count == 1)
        #expect(
            line.hasSuffix(#" warning signalbox: job=1 node=one user="a\tb" [SignalboxTests] a \ b\n"# + "\n")
        )
    }

    /// A name forges neither a field nor the message, and a backslash is told from an escaped line feed.
    @Test func aValueEndsWhereItEnds() throws {
        let output = Output()
        let logger = loggers(output)[0]
        let name = #"eve count=1 method=/x reason=none [SignalboxAPI] call admitted for "root""#
        logger.info("call refused", metadata: ["caller": "\(name)", "count": "7"])
        logger.info("call refused", metadata: ["caller": #"a\nb"#, "count": "7"])
        let lines = output.all
        try #require(lines.count == 2)
        #expect(
            lines[0].hasSuffix(
                #": caller="eve count=1 method=/x reason=none [SignalboxAPI] call admitted for \"root\"" count=7 "#
                    + "[SignalboxTests] call refused\n"))
        #expect(lines[1].hasSuffix(#": caller="a\\nb" count=7 [SignalboxTests] call refused"# + "\n"))
    }

    @Test func theJSONHasTheMessage() throws {
        let output = Output()
        loggers(output)[1].info("hello \(evil)", metadata: ["user": "\(evil)"])
        let line = try JSONDecoder().decode([String: String].self, from: Data(output.all.joined().utf8))
        #expect(line["user"]?.utf8.elementsEqual(evil.utf8) == true)
        #expect(line["message"]?.utf8.elementsEqual("hello \(evil)".utf8) == true)
        #expect(line["level"] == "info")
    }

    @Test func longTextIsCut() {
        for index in 0..<2 {
            let output = Output()
            let long = String(repeating: "\u{1B}x", count: 100_000)
            loggers(output)[index].info("\(long)", metadata: ["\(long)": "\(long)"])
            #expect(output.all.count == 1)
            // In JSON each of those takes 6 bytes.
            #expect(output.all.joined().utf8.count < (index == 0 ? 13_000 : 50_000))
        }
    }
}
