import FoundationEssentials
package import JobCore

/// What a line of a command's standard output says. `docs/command-handlers.md` is for those who write one.
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
    package var fraction: Double
    package var message: String
    package var step: Int
    package var steps: Int

    package init(
        stage: String = "", fraction: Double = 0, message: String = "", step: Int = 0, steps: Int = 0
    ) {
        self.stage = stage
        self.fraction = fraction
        self.message = message
        self.step = step
        self.steps = steps
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

    /// For a line whose first byte other than space is `{`, which may carry a result. Bytes.
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
package enum CommandOutput {
    /// Never empty. A line that is not an object of ours is a log line.
    package static func records(in line: LineSplitter.Line) -> [CommandRecord] {
        let text = [CommandRecord.log(.info, String(decoding: line.bytes, as: UTF8.self))]
        guard let start = line.bytes.firstIndex(where: { $0 != 0x20 && $0 != 0x09 }),
            line.bytes[start] == UInt8(ascii: "{")
        else { return text }
        var members = JSONMembers(bytes: line.bytes, at: start)
        if line.isCut {
            // Too long to be judged as a whole: by its first key, is it ours?
            guard let key = members.firstKey(), Key(rawValue: key) != nil else { return text }
            return [.violation("a line with \"\(key)\" is longer than \(LineSplitter.recordBytesMax) bytes")]
        }
        guard JSONText.isValid(line.bytes) else { return text }
        let values = members.all()
        var records: [CommandRecord] = []
        for key in Key.allCases {
            guard let value = values[key.rawValue] else { continue }
            let contentType = values["content_type"].flatMap { decoded(String.self, from: $0) }
            guard let record = record(key, value: value, contentType: contentType) else { return text }
            records.append(record)
        }
        return records.isEmpty ? text : records
    }

    private enum Key: String, CaseIterable {
        case progress, log, checkpoint, result
        case resultBase64 = "result_base64"
        case retryAfter = "retry_after_ms"
        case error
    }

    private struct ProgressFields: Decodable {
        var stage: String?
        var fraction: Double?
        var message: String?
        var step: Double?
        var steps: Double?
    }

    private struct LogFields: Decodable {
        var level: String?
        var message: String
    }

    private struct ErrorFields: Decodable {
        var reason: String?
        var message: String?
    }

    /// Nil where the value does not have the key's shape.
    private static func record(_ key: Key, value: ArraySlice<UInt8>, contentType: String?) -> CommandRecord? {
        switch key {
        case .progress:
            return decoded(ProgressFields.self, from: value).map { .progress(progress($0)) }
        case .log:
            if let message = decoded(String.self, from: value) { return .log(.info, message) }
            return decoded(LogFields.self, from: value).map { .log(level($0.level), $0.message) }
        case .checkpoint:
            guard value.count <= JobLimits.checkpointBytesMax else {
                return .violation(
                    "a checkpoint of \(value.count) bytes; at most \(JobLimits.checkpointBytesMax) are kept")
            }
            return .checkpoint(Array(value))
        case .result:
            return result(Array(value), contentType: JobLimits.defaultContentType)
        case .resultBase64:
            guard let text = decoded(String.self, from: value), let data = Data(base64Encoded: text)
            else { return .violation("result_base64 is not base64") }
            return result(Array(data), contentType: contentType ?? "application/octet-stream")
        case .retryAfter:
            guard let milliseconds = decoded(Double.self, from: value), milliseconds >= 0 else { return nil }
            let longest = JobLimits.retryDelayMax
            return .retryAfter(min(.milliseconds(Int64(min(milliseconds, 1e12))), longest))
        case .error:
            return decoded(ErrorFields.self, from: value).map {
                .error(reason: $0.reason, message: $0.message)
            }
        }
    }

    private static func result(_ data: [UInt8], contentType: String) -> CommandRecord {
        guard data.count <= JobLimits.resultBytesMax else {
            return .violation(
                "a result of \(data.count) bytes; at most \(JobLimits.resultBytesMax) are kept")
        }
        guard (1...JobLimits.contentTypeBytesMax).contains(contentType.utf8.count),
            !contentType.utf8.contains(0)
        else {
            return .violation("content_type is not 1 to \(JobLimits.contentTypeBytesMax) bytes of text")
        }
        return .result(JobResult(data: data, contentType: contentType))
    }

    private static func progress(_ fields: ProgressFields) -> CommandProgress {
        func whole(_ number: Double?) -> Int { Int(min(max(number ?? 0, 0), Double(Int32.max))) }
        let step = whole(fields.step)
        let steps = whole(fields.steps)
        return CommandProgress(
            stage: fields.stage ?? "",
            fraction: fields.fraction ?? (steps > 0 ? Double(step) / Double(steps) : 0),
            message: fields.message ?? "", step: step, steps: steps)
    }

    private static func level(_ name: String?) -> LogLine.Level {
        switch name?.lowercased() {
        case "trace", "debug": .debug
        case "warn", "warning": .warning
        case "error", "critical", "fatal": .error
        default: .info
        }
    }

    private static func decoded<T: Decodable>(_ type: T.Type, from value: ArraySlice<UInt8>) -> T? {
        try? JSONDecoder().decode(type, from: Data(value))
    }
}

/// Finds the members of a JSON object and keeps their text: a checkpoint or a result must come out byte
/// for byte as it was written, which a parser that builds numbers cannot promise.
private struct JSONMembers {
    let bytes: [UInt8]
    private var position: Int

    /// `start` is the place of the `{`.
    init(bytes: [UInt8], at start: Int) {
        self.bytes = bytes
        self.position = start + 1
    }

    /// The first key, of an object that may be incomplete.
    mutating func firstKey() -> String? {
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { return nil }
        let start = position
        skipString()
        guard position <= bytes.count else { return nil }
        return key(bytes[start..<position])
    }

    /// Every member; of a key that comes twice, the last. The bytes must be valid JSON.
    mutating func all() -> [String: ArraySlice<UInt8>] {
        var members: [String: ArraySlice<UInt8>] = [:]
        while true {
            skipSpace()
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { return members }
            let keyStart = position
            skipString()
            let name = key(bytes[keyStart..<position])
            skipSpace()
            position += 1  // the colon
            skipSpace()
            let start = position
            skipValue()
            var end = position
            while end > start, isSpace(bytes[end - 1]) { end -= 1 }
            if let name { members[name] = bytes[start..<end] }
            position += 1  // the comma, or the brace at the end
        }
    }

    private func key(_ quoted: ArraySlice<UInt8>) -> String? {
        try? JSONDecoder().decode(String.self, from: Data(quoted))
    }

    /// To the comma or the brace after the value.
    private mutating func skipValue() {
        var depth = 0
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                skipString()
                continue
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: ","):
                if depth == 0 { return }
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                if depth == 0 { return }
                depth -= 1
            default: break
            }
            position += 1
        }
    }

    /// From the opening quote to after the closing one.
    private mutating func skipString() {
        position += 1
        while position < bytes.count {
            let byte = bytes[position]
            position += byte == UInt8(ascii: "\\") ? 2 : 1
            if byte == UInt8(ascii: "\"") { return }
        }
        position = bytes.count
    }

    private mutating func skipSpace() {
        while position < bytes.count, isSpace(bytes[position]) { position += 1 }
    }

    private func isSpace(_ byte: UInt8) -> Bool {
        byte == 0x20 || byte == 0x09 || byte == 0x0D || byte == 0x0A
    }
}
