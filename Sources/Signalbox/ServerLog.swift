import Foundation
import JobModel
import Logging
import Settings
import Support

/// Writes structured logs to standard error, in the format of the settings. Payloads are never logged.
///
/// Every event is one line. Text from outside is escaped, so that it cannot drive a terminal.
enum ServerLog {
    /// The most bytes of UTF-8 of a message, and of each key and value of its metadata. Longer ones are cut.
    static let textBytesMax = 4096

    static func start(_ settings: ServerSettings) -> Logger {
        let level = level(settings.logLevel)
        let isJSON = settings.logFormat == .json
        LoggingSystem.bootstrap { label in
            var handler: any LogHandler =
                isJSON
                ? JSONLogHandler()
                : TextLogHandler(StreamLogHandler.standardError(label: label, metadataProvider: nil))
            handler.logLevel = level
            return handler
        }
        return Logger(label: "signalbox")
    }

    private static func level(_ level: Settings.LogLevel) -> Logger.Level {
        switch level {
        case .trace: .trace
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        case .critical: .critical
        }
    }

    /// The metadata of an event: the logger's, its own, and its error.
    fileprivate static func values(_ metadata: Logger.Metadata, _ event: LogEvent) -> [String: String] {
        var values = metadata.merging(event.metadata ?? [:]) { _, new in new }.mapValues { "\($0)" }
        if let error = event.error {
            values["error.message"] = "\(error)"
            values["error.type"] = String(reflecting: type(of: error))
        }
        return values
    }
}

/// Writes lines in swift-log's format, with text escaped, and values in quotes where they need them.
struct TextLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    private var lines: StreamLogHandler

    /// - Parameter lines: the handler that writes the lines. It must have no metadata of its own.
    init(_ lines: StreamLogHandler) {
        self.lines = lines
    }

    var logLevel: Logger.Level {
        get { lines.logLevel }
        set { lines.logLevel = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var event = event
        let values = ServerLog.values(metadata, event).map {
            (
                Self.escaped($0.key),
                Logger.MetadataValue.string(PrintableText.quoted($0.value, bytesMax: ServerLog.textBytesMax))
            )
        }
        event.metadata = Dictionary(values, uniquingKeysWith: { $1 })
        event.error = nil
        event.message = "\(Self.escaped(event.message.description))"
        lines.log(event: event)
    }

    private static func escaped(_ text: String) -> String {
        PrintableText.escaped(text, bytesMax: ServerLog.textBytesMax)
    }
}

/// Writes one JSON object per line.
struct JSONLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info
    private let write: @Sendable (Data) -> Void

    init(write: @escaping @Sendable (Data) -> Void = { FileHandle.standardError.write($0) }) {
        self.write = write
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var line = Dictionary(
            ServerLog.values(metadata, event).map { (Self.cut($0.key), Self.cut($0.value)) },
            uniquingKeysWith: { $1 })
        line["time"] = Date().formatted(.iso8601.time(includingFractionalSeconds: true))
        line["level"] = event.level.rawValue
        line["message"] = Self.cut(event.message.description)
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        guard let data = try? encoder.encode(line) else { return }
        write(Data((PrintableText.escapedJSON(String(decoding: data, as: UTF8.self)) + "\n").utf8))
    }

    private static func cut(_ text: String) -> String { text.cut(toBytes: ServerLog.textBytesMax) }
}
