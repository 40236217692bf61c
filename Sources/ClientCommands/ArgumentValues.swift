import ArgumentParser
import FoundationEssentials
import JobModel
import Settings

/// An argument that cannot be read.
struct ArgumentTextError: Error, CustomStringConvertible {
    let description: String
}

extension String {
    /// An empty text would stand for the default or for any, which is not what `--queue "$QUEUE"` means where the variable
    /// is not set.
    init(notEmpty text: String) throws {
        guard !text.isEmpty else { throw ArgumentTextError(description: "it must not be empty") }
        self = text
    }
}

extension Duration {
    /// Parses a duration as the settings do: a whole number and a unit.
    init(written text: String) throws {
        guard let duration = DurationText.duration(text) else {
            throw ArgumentTextError(
                description: "'\(text.printable)' is not a duration such as 500ms, 5s, 10m, 2h or 7d")
        }
        self = duration
    }
}

extension Timestamp {
    /// Parses a date and time with its zone (RFC 3339): `2030-01-31T09:30:00Z`, `2030-01-31T09:30:00.5+01:00`.
    init(written text: String) throws {
        let styles = [
            Date.ISO8601FormatStyle(), Date.ISO8601FormatStyle(includingFractionalSeconds: true),
        ]
        for style in styles {
            if let date = try? style.parse(text) {
                self.init(microseconds: Int64((date.timeIntervalSince1970 * 1_000_000).rounded()))
                return
            }
        }
        throw ArgumentTextError(
            description: "'\(text.printable)' is not a time with its zone, such as 2030-01-31T09:30:00Z")
    }
}

extension JobID {
    init(written text: String) throws {
        guard let id = JobID(text) else {
            throw ArgumentTextError(description: "'\(text.printable)' is not a job id (a UUID)")
        }
        self = id
    }
}

extension JobState {
    init(written text: String) throws {
        guard let state = JobState(rawValue: text.lowercased()) else {
            let all = JobState.allCases.map(\.word).joined(separator: ", ")
            throw ArgumentTextError(description: "'\(text.printable)' is not one of \(all)")
        }
        self = state
    }
}

extension LogLine.Level {
    init(written text: String) throws {
        guard let level = LogLine.Level(rawValue: text.lowercased()) else {
            throw ArgumentTextError(
                description: "'\(text.printable)' is not one of debug, info, warning, error")
        }
        self = level
    }
}

/// A label, written as `key=value`.
struct LabelArgument: Sendable, Equatable {
    var key: String
    var value: String

    init(written text: String) throws {
        guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
            throw ArgumentTextError(description: "'\(text.printable)' is not key=value")
        }
        key = String(text[..<equals])
        value = String(text[text.index(after: equals)...])
    }
}
