import FoundationEssentials
package import JobModel
import Support

/// A record on a command's standard output. `docs/command-handlers.md` describes the format.
package enum CommandRecord: Sendable, Equatable {
    case progress(CommandProgress)
    case log(LogLine.Level, String)
    /// The JSON text, byte for byte as the command wrote it.
    case checkpoint([UInt8])
    case result(JobResult)
    case retryAfter(Duration)
    case error(reason: String?, message: String?)
    /// The command broke a limit: the job fails for good with this message.
    case violation(String)
}

package struct CommandProgress: Sendable, Equatable {
    package var stage: String
    /// Nil: it is not known.
    package var fraction: Double?
    package var message: String
    package var done: Int64
    /// 0: units are not counted.
    package var total: Int64

    package init(
        stage: String = "", fraction: Double? = nil, message: String = "", done: Int64 = 0, total: Int64 = 0
    ) {
        self.stage = stage
        self.fraction = fraction
        self.message = message
        self.done = done
        self.total = total
    }
}

/// Cuts a stream of bytes into lines, each held to a bound.
package struct LineSplitter: ~Copyable {
    package struct Line: Equatable {
        package var bytes: [UInt8]
        /// Bytes over the bound were dropped.
        package var isCut: Bool

        package init(bytes: [UInt8], isCut: Bool) {
            self.bytes = bytes
            self.isCut = isCut
        }
    }

    /// The bound of a line whose first byte other than space is `{`, which may carry a result, in bytes.
    package static let recordBytesMax = 2 << 20

    private let recordBytesMax: Int
    private let textBytesMax: Int
    private var line: [UInt8] = []
    private var isCut = false
    /// Nil until the first byte other than space.
    private var isRecord: Bool?

    package init(
        recordBytesMax: Int = LineSplitter.recordBytesMax, textBytesMax: Int = JobLimits.logMessageBytesMax
    ) {
        self.recordBytesMax = recordBytesMax
        self.textBytesMax = textBytesMax
    }

    /// Calls `each` with every line that ends within `bytes`.
    package mutating func feed(_ bytes: some Sequence<UInt8>, each: (Line) -> Void) {
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                if let line = takeLine() { each(line) }
            } else {
                append(byte)
            }
        }
    }

    /// The last line, where the stream did not end with a line feed.
    package mutating func finish() -> Line? {
        takeLine()
    }

    private mutating func append(_ byte: UInt8) {
        if isRecord == nil, byte != UInt8(ascii: " "), byte != UInt8(ascii: "\t") {
            isRecord = byte == UInt8(ascii: "{")
        }
        if line.count < (isRecord == true ? recordBytesMax : textBytesMax) {
            line.append(byte)
        } else {
            isCut = true
        }
    }

    /// Nil for an empty line.
    private mutating func takeLine() -> Line? {
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        defer {
            line.removeAll(keepingCapacity: line.count <= textBytesMax)
            isCut = false
            isRecord = nil
        }
        return isRecord == nil ? nil : Line(bytes: line, isCut: isCut)
    }
}

/// Reads the lines of a command's standard output.
///
/// The payload may make a command write any text. So keys are compared by their bytes, and only single values are given to
/// Foundation's decoder, which puts every key of an object into a table.
package enum CommandOutput {
    /// The records of a line; never empty. A line that is not an object with one of the known keys is a log line.
    package static func records(in line: LineSplitter.Line) -> [CommandRecord] {
        let text = [
            CommandRecord.log(
                .info, String(decoding: line.bytes.prefix(JobLimits.logMessageBytesMax + 1), as: UTF8.self))
        ]
        if line.isCut {
            // It is too long to be judged as a whole, so its first key decides whether it is a record.
            guard let quoted = JSONObject.firstKey(of: line.bytes[...]),
                let key = Key.allCases.first(where: { quoted.elementsEqual("\"\($0.name)\"".utf8) })
            else { return text }
            return [
                .violation("a line with \"\(key.name)\" is longer than \(LineSplitter.recordBytesMax) bytes")
            ]
        }
        let verdict = JSONText.verdict(on: line.bytes)
        guard verdict != .invalid, let object = JSONObject(line.bytes[...]) else { return text }
        var records: [CommandRecord] = []
        for key in Key.allCases {
            guard let value = object[key.name] else { continue }
            if verdict == .keyTooLong {
                return [
                    .violation(
                        "a line with \"\(key.name)\" has a JSON key of more than \(JSONText.keyBytesMax) bytes"
                    )
                ]
            }
            guard let record = record(key, value: value, contentType: object["content_type"]) else {
                return text
            }
            records.append(record)
        }
        return records.isEmpty ? text : records
    }

    private enum Key: CaseIterable {
        case progress, log, checkpoint, result, resultBase64, retryAfter, error

        var name: StaticString {
            switch self {
            case .progress: "progress"
            case .log: "log"
            case .checkpoint: "checkpoint"
            case .result: "result"
            case .resultBase64: "result_base64"
            case .retryAfter: "retry_after_ms"
            case .error: "error"
            }
        }
    }

    /// Thrown where a value does not have the shape that its key asks for.
    private struct WrongShape: Error {}

    /// The members of a record's value. Absent and null mean the same.
    private struct Fields {
        let object: JSONObject

        init?(_ value: ArraySlice<UInt8>) {
            guard let object = JSONObject(value) else { return nil }
            self.object = object
        }

        func value<T: Decodable>(_ name: StaticString, as type: T.Type) throws(WrongShape) -> T? {
            guard let value = object[name], !value.elementsEqual("null".utf8) else { return nil }
            guard let decoded = CommandOutput.scalar(type, from: value) else { throw WrongShape() }
            return decoded
        }
    }

    /// Nil where the value does not have the key's shape.
    private static func record(
        _ key: Key, value: ArraySlice<UInt8>, contentType: ArraySlice<UInt8>?
    ) -> CommandRecord? {
        switch key {
        case .progress:
            return (try? progress(value)).map { .progress($0) }
        case .log:
            if let message = scalar(String.self, from: value) { return .log(.info, message) }
            return try? log(value)
        case .checkpoint:
            guard value.count <= JobLimits.checkpointBytesMax else {
                return .violation(
                    "a checkpoint of \(value.count) bytes is over the limit of \(JobLimits.checkpointBytesMax)"
                )
            }
            return .checkpoint(Array(value))
        case .result:
            return result(Array(value), contentType: JobLimits.defaultContentType)
        case .resultBase64:
            guard let text = scalar(String.self, from: value), let data = Data(base64Encoded: text)
            else { return .violation("result_base64 is not base64") }
            let type = contentType.flatMap { scalar(String.self, from: $0) }.map { ExactText($0) }
            return result(Array(data), contentType: type ?? "application/octet-stream")
        case .retryAfter:
            guard let milliseconds = scalar(Double.self, from: value), milliseconds >= 0 else { return nil }
            let longest = JobLimits.retryDelayMax
            return .retryAfter(min(.milliseconds(Int64(min(milliseconds, 1e12))), longest))
        case .error:
            return try? error(value)
        }
    }

    private static func result(_ data: [UInt8], contentType: ExactText) -> CommandRecord {
        guard data.count <= JobLimits.resultBytesMax else {
            return .violation(
                "a result of \(data.count) bytes is over the limit of \(JobLimits.resultBytesMax)")
        }
        guard (1...JobLimits.contentTypeBytesMax).contains(contentType.utf8.count),
            !contentType.hasControlCharacter
        else {
            return .violation(
                "content_type is not 1 to \(JobLimits.contentTypeBytesMax) bytes of text without control characters"
            )
        }
        return .result(JobResult(data: data, contentType: contentType))
    }

    private static func progress(_ value: ArraySlice<UInt8>) throws(WrongShape) -> CommandProgress {
        guard let fields = Fields(value) else { throw WrongShape() }
        let done = try count("done", of: fields)
        let total = try count("total", of: fields)
        return CommandProgress(
            stage: try fields.value("stage", as: String.self) ?? "",
            fraction: try fields.value("fraction", as: Double.self)
                ?? (total > 0 ? Double(done) / Double(total) : nil),
            message: try fields.value("message", as: String.self) ?? "", done: done, total: total)
    }

    /// A number of 0 or more. JSON has no integers, so a fraction is cut off, and a number over 2⁵³ may be inexact.
    private static func count(_ name: StaticString, of fields: Fields) throws(WrongShape) -> Int64 {
        guard let number = try fields.value(name, as: Double.self) else { return 0 }
        return Int64(exactly: max(number, 0).rounded(.down)) ?? .max
    }

    private static func log(_ value: ArraySlice<UInt8>) throws(WrongShape) -> CommandRecord {
        guard let fields = Fields(value), let message = try fields.value("message", as: String.self) else {
            throw WrongShape()
        }
        return .log(level(try fields.value("level", as: String.self).map { ExactText($0) }), message)
    }

    private static func error(_ value: ArraySlice<UInt8>) throws(WrongShape) -> CommandRecord {
        guard let fields = Fields(value) else { throw WrongShape() }
        return .error(
            reason: try fields.value("reason", as: String.self),
            message: try fields.value("message", as: String.self))
    }

    private static func level(_ name: ExactText?) -> LogLine.Level {
        switch name?.lowercasedASCII {  // exact: an ExactText
        case "trace", "debug": .debug
        case "warn", "warning": .warning
        case "error", "critical", "fatal": .error
        default: .info
        }
    }

    /// A text or a number.
    private static func scalar<T: Decodable>(_ type: T.Type, from value: ArraySlice<UInt8>) -> T? {
        guard let first = value.first, first != UInt8(ascii: "{"), first != UInt8(ascii: "[") else {
            return nil
        }
        return try? JSONDecoder().decode(type, from: Data(value))
    }
}
