import Foundation
import Logging
import Settings

/// Structured logs on standard error, as the settings say. Payloads never reach them.
enum ServerLog {
    static func start(_ settings: ServerSettings) -> Logger {
        let level = Logger.Level(rawValue: settings.logLevel.rawValue) ?? .info
        let isJSON = settings.logFormat == .json
        LoggingSystem.bootstrap { label in
            var handler: any LogHandler =
                isJSON ? JSONLogHandler() : StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        return Logger(label: "signalbox")
    }
}

/// One JSON object a line.
private struct JSONLogHandler: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var line = metadata.merging(event.metadata ?? [:]) { _, new in new }.mapValues { "\($0)" }
        line["time"] = Date().formatted(.iso8601.time(includingFractionalSeconds: true))
        line["level"] = event.level.rawValue
        line["message"] = "\(event.message)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        guard var data = try? encoder.encode(line) else { return }
        data.append(UInt8(ascii: "\n"))
        FileHandle.standardError.write(data)
    }
}
