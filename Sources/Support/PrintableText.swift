// exact in this file: scalars are compared, and no String is.

/// Text from outside, for a line of a log or for a terminal.
///
/// It works on Unicode scalars: to find where characters end, or to compare text in normal form, takes very long for some
/// text, which any client can send.
package enum PrintableText {
    /// Whether a scalar could end a line, drive a terminal, or change how the text around it is read: control characters
    /// (Cc), line and paragraph separators (Zl, Zp), and format characters (Cf), which are those that turn the direction
    /// of text, zero-width ones, and tags.
    package static func isUnprintable(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return scalar.value < 0x20 || scalar.value == 0x7F }
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: return true
        default: return false
        }
    }

    /// Whether a scalar is printable and looks like empty space: space separators (Zs), and the characters that other
    /// categories have for a blank.
    package static func isBlank(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return scalar == " " }
        switch scalar.value {
        // The blank of Braille, of hieroglyphs (two widths) and of Khitan, and the note without a head.
        case 0x2800, 0x13441, 0x13442, 0x16FE4, 0x1D159: return true
        default: return scalar.properties.generalCategory == .spaceSeparator
        }
    }

    /// On one line: unprintable scalars become `\n`, `\r`, `\t` or, as `\u{1B}`, their number. A backslash stays one, so
    /// that text which has none of them is not changed.
    ///
    /// - Parameter bytesMax: at least 3. Of UTF-8; longer text is cut, and ends in "…" then.
    package static func escaped(_ text: String, bytesMax: Int = .max) -> String {
        let isClean = text.utf8.count <= bytesMax && text.unicodeScalars.allSatisfy { !isUnprintable($0) }
        if isClean { return text }
        return rewritten(text, bytesMax: bytesMax) { isUnprintable($0) ? escape($0) : nil }
    }

    /// A value of `key=value` as in logfmt. It is quoted if it contains a blank, `=`, `"`, `[`, `]`, a backslash or an
    /// unprintable scalar; in quotes, `"` and `\` are escaped by a backslash, and unprintable scalars as by `escaped`. No
    /// two values are written alike, unless they were cut.
    ///
    /// - Parameter bytesMax: at least 5. Of UTF-8, with the quotes; a longer value is cut, and its text ends in "…" then.
    package static func quoted(_ text: String, bytesMax: Int = .max) -> String {
        if text.unicodeScalars.allSatisfy({ !wantsQuotes($0) }) { return escaped(text, bytesMax: bytesMax) }
        let inner = rewritten(text, bytesMax: bytesMax - 2) { scalar in
            if isUnprintable(scalar) { return escape(scalar) }
            return scalar == "\"" || scalar == "\\" ? "\\\(scalar)" : nil
        }
        return "\"\(inner)\""
    }

    private static func wantsQuotes(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar {
        case "=", "\"", "[", "]", "\\": true
        default: isBlank(scalar) || isUnprintable(scalar)
        }
    }

    /// - Parameter replacement: nil: the scalar stays.
    private static func rewritten(
        _ text: String, bytesMax: Int, _ replacement: (Unicode.Scalar) -> String?
    ) -> String {
        let ellipsis = "…".utf8
        var written: [UInt8] = []
        // The length to which it is cut if it is over the limit.
        var fitting = 0
        for scalar in text.unicodeScalars {
            if let replacement = replacement(scalar) {
                written.append(contentsOf: replacement.utf8)
            } else {
                written.append(contentsOf: scalar.utf8)
            }
            if written.count > bytesMax {
                written.removeSubrange(fitting...)
                written.append(contentsOf: ellipsis)
                break
            }
            if written.count <= bytesMax - ellipsis.count { fitting = written.count }
        }
        return String(decoding: written, as: UTF8.self)
    }

    /// The same JSON, with unprintable scalars as `\u001b`. They can only be within its strings, if it has no white space
    /// of its own.
    package static func escapedJSON(_ json: String) -> String {
        if json.unicodeScalars.allSatisfy({ !isUnprintable($0) }) { return json }
        var escaped: [UInt8] = []
        for scalar in json.unicodeScalars {
            guard isUnprintable(scalar) else {
                escaped.append(contentsOf: scalar.utf8)
                continue
            }
            for unit in scalar.utf16 {
                let digits = String(unit, radix: 16).utf8
                escaped.append(contentsOf: "\\u".utf8)
                escaped.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: 4 - digits.count))
                escaped.append(contentsOf: digits)
            }
        }
        return String(decoding: escaped, as: UTF8.self)
    }

    private static func escape(_ scalar: Unicode.Scalar) -> String {
        switch scalar.value {
        case 0x0A: "\\n"
        case 0x0D: "\\r"
        case 0x09: "\\t"
        default: "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
        }
    }
}
