/// Text from outside, for a line of a log or for a terminal.
///
/// It works on Unicode scalars: to find where characters end, or to compare text in normal form, takes very long for some
/// text, which anybody can send.
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

    /// Whether a scalar may stand in the name of somebody, which people compare by eye: it is printable, assigned in the
    /// toolchain's version of Unicode, and can be seen.
    package static func mayBeInName(_ scalar: Unicode.Scalar) -> Bool {
        if isUnprintable(scalar) { return false }
        if scalar.isASCII { return true }
        return scalar.properties.generalCategory != .unassigned
            && !scalar.properties.isDefaultIgnorableCodePoint
    }

    /// On one line: unprintable scalars become `\n`, `\r`, `\t` or, as `\u{1B}`, their number. A backslash stays one, so
    /// that text which has none of them is not changed.
    ///
    /// - Parameter bytesMax: at least 3. Of UTF-8; longer text is cut, and ends in "…" then.
    package static func escaped(_ text: String, bytesMax: Int = .max) -> String {
        let isClean = text.utf8.count <= bytesMax && text.unicodeScalars.allSatisfy { !isUnprintable($0) }
        if isClean { return text }
        let ellipsis = "…".utf8
        var escaped: [UInt8] = []
        // How much of it stays if there is no room for all.
        var fitting = 0
        for scalar in text.unicodeScalars {
            if isUnprintable(scalar) {
                escaped.append(contentsOf: escape(scalar).utf8)
            } else {
                escaped.append(contentsOf: scalar.utf8)
            }
            if escaped.count > bytesMax {
                escaped.removeSubrange(fitting...)
                escaped.append(contentsOf: ellipsis)
                break
            }
            if escaped.count <= bytesMax - ellipsis.count { fitting = escaped.count }
        }
        return String(decoding: escaped, as: UTF8.self)
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
