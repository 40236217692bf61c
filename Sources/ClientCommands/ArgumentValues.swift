import ArgumentParser
import FoundationEssentials
import JobCore

/// An argument that cannot be read.
struct ArgumentTextError: Error, CustomStringConvertible {
    let description: String
}

extension Duration {
    private static let nanosecondsOfUnit: [String: Int64] = [
        "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
        "d": 86_400_000_000_000,
    ]

    /// Numbers with a unit each, added up: `250ms`, `1.5s`, `1h30m`. Units: ms, s, m, h, d.
    init(written text: String) throws {
        let wrong = ArgumentTextError(
            description: "'\(text.printable)' is not a duration such as 500ms, 5s, 10m, 1h30m or 2d")
        var rest = Substring(text)
        var total: Int64 = 0
        if rest.isEmpty { throw wrong }
        while !rest.isEmpty {
            let number = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            rest = rest.dropFirst(number.count)
            let unit = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(unit.count)
            let parts = number.split(separator: ".", omittingEmptySubsequences: false)
            guard let nanoseconds = Self.nanosecondsOfUnit[String(unit)], (1...2).contains(parts.count),
                let whole = Int64(parts[0])
            else { throw wrong }
            var product = whole.multipliedReportingOverflow(by: nanoseconds)
            if parts.count == 2 {
                guard (1...9).contains(parts[1].count), let part = Double("0." + parts[1]) else {
                    throw wrong
                }
                let fraction = Int64((part * Double(nanoseconds)).rounded())
                let overflow = product.overflow
                product = product.partialValue.addingReportingOverflow(fraction)
                product.overflow = product.overflow || overflow
            }
            let sum = total.addingReportingOverflow(product.partialValue)
            guard !product.overflow, !sum.overflow else { throw wrong }
            total = sum.partialValue
        }
        self = .nanoseconds(total)
    }
}

extension Timestamp {
    /// A date and time with its zone (RFC 3339): `2030-01-31T09:30:00Z`, `2030-01-31T09:30:00.5+01:00`.
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

/// `key=value`.
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
