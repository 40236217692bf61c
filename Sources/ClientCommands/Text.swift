import JobCore

extension String {
    /// On one line and without what could drive a terminal: control characters become spaces, and marks
    /// that turn the direction of text are left out.
    var printable: String {
        let isClean = unicodeScalars.allSatisfy { !Self.isControl($0) && !Self.turnsText($0) }
        if isClean { return self }
        var result = ""
        for scalar in unicodeScalars where !Self.turnsText(scalar) {
            result.unicodeScalars.append(Self.isControl(scalar) ? " " : scalar)
        }
        return result
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.generalCategory == .control || scalar.value == 0x2028 || scalar.value == 0x2029
    }

    private static func turnsText(_ scalar: Unicode.Scalar) -> Bool {
        (0x202A...0x202E).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
    }

    /// Columns on a terminal, near enough: East Asian characters and emoji take two.
    var columns: Int { reduce(0) { $0 + $1.columns } }

    /// At most `columns` wide; what is cut ends in '…'.
    func cut(toColumns limit: Int) -> String {
        if columns <= limit { return self }
        guard limit > 0 else { return "" }
        var result = ""
        var used = 1
        for character in self {
            used += character.columns
            if used > limit { break }
            result.append(character)
        }
        return result + "…"
    }

    func padded(toColumns width: Int, left: Bool = false) -> String {
        let padding = String(repeating: " ", count: max(0, width - columns))
        return left ? padding + self : self + padding
    }
}

extension Character {
    fileprivate var columns: Int {
        guard let scalar = unicodeScalars.first else { return 0 }
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
            0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1FAFF, 0x20000...0x3FFFD:
            return 2
        default: return 1
        }
    }
}

// The words of the protocol, without the prefix that each enum's values have there.

extension JobState {
    var word: String { rawValue.uppercased() }
}

extension JobEventType {
    var word: String { rawValue.uppercased() }
}

extension Attempt.Outcome {
    var word: String { self == .timedOut ? "TIMED_OUT" : rawValue.uppercased() }
}

extension JobError {
    /// `reason: message`.
    var text: String { (message.isEmpty ? reason : "\(reason): \(message)").printable }
}
