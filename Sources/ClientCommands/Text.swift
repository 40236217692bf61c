import JobModel
import Support

extension String {
    /// The text on one line, without characters that could drive a terminal (`PrintableText`).
    var printable: String { PrintableText.escaped(self) }

    /// The approximate number of columns on a terminal: East Asian characters and emoji take two, combining marks
    /// none.
    var columns: Int { unicodeScalars.reduce(0) { $0 + Self.columns($1) } }

    /// The text cut to at most `columns`. Text that was cut ends in '…'.
    func cut(toColumns limit: Int) -> String {
        if columns <= limit { return self }
        guard limit > 0 else { return "" }
        var result = UnicodeScalarView()
        var used = 1
        for scalar in unicodeScalars {
            used += Self.columns(scalar)
            if used > limit { break }
            result.append(scalar)
        }
        return String(result) + "…"
    }

    func padded(toColumns width: Int, left: Bool = false) -> String {
        let padding = String(repeating: " ", count: max(0, width - columns))
        return left ? padding + self : self + padding
    }

    private static func columns(_ scalar: Unicode.Scalar) -> Int {
        if scalar.isASCII { return 1 }
        switch scalar.value {
        // Skin tones, which modify the emoji before them.
        case 0x1F3FB...0x1F3FF: return 0
        case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
            0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD:
            return 2
        default: break
        }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark: return 0
        default: return 1
        }
    }
}

// The names of the protocol's enum values, without the prefix that they have there.

extension JobState {
    var word: String { rawValue.uppercased() }
}

extension JobEventType {
    var word: String { rawValue.uppercased() }
}

extension Attempt.Outcome {
    var word: String { self == .timedOut ? "TIMED_OUT" : rawValue.uppercased() }
}

extension ServerFeature.Stability {
    var word: String { rawValue.uppercased() }
}

extension JobError {
    /// The cause, the handler's reason in brackets, and the message: `handler (bad_input): no such voice`.
    var text: String {
        let word = cause?.rawValue.replacing("_", with: " ") ?? "unknown cause"
        let words = reason.isEmpty ? word : "\(word) (\(reason))"
        return (message.isEmpty ? words : "\(words): \(message)").printable
    }
}
