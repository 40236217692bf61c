// exact in this file: scalars are compared, and no String is.

import Support

/// The rule for the name of a principal, or of a user that it may act for. People compare names by eye in the
/// audit and in logs, so a name has no hidden characters, does not look empty, and has no space around it.
package enum PrincipalName {
    package static let bytesMax = JobLimits.userIDBytesMax
    /// The most combining marks in a row: more than any writing needs, and too few to cover the lines around the
    /// name.
    static let marksMax = 8

    /// The rule that `isValid` checks, as a text that completes "must be …" and "is not …".
    package static let rule =
        "1 to \(bytesMax) bytes of text without hidden, blank or private-use characters, without a space at either "
        + "end, and with at most \(marksMax) combining marks in a row and none at the beginning"

    package static func isValid(_ text: String) -> Bool {
        guard (1...bytesMax).contains(text.utf8.count) else { return false }
        let scalars = text.unicodeScalars
        guard scalars.first != " ", scalars.last != " " else { return false }
        // A mark at the beginning would be drawn onto the text before the name.
        var marksLeft = 0
        for scalar in scalars {
            guard isAllowed(scalar) else { return false }
            if isMark(scalar) {
                guard marksLeft > 0 else { return false }
                marksLeft -= 1
            } else {
                marksLeft = marksMax
            }
        }
        return true
    }

    /// Whether the scalar is printable, assigned in the toolchain's version of Unicode, and visible.
    private static func isAllowed(_ scalar: Unicode.Scalar) -> Bool {
        if PrintableText.isUnprintable(scalar) { return false }
        if scalar.isASCII { return true }
        // U+FFFC and U+FFFD are placeholders for content that is not text or could not be decoded.
        if PrintableText.isBlank(scalar) || scalar == "\u{FFFC}" || scalar == "\u{FFFD}" { return false }
        switch scalar.properties.generalCategory {
        case .unassigned, .privateUse: return false
        default: return !scalar.properties.isDefaultIgnorableCodePoint
        }
    }

    /// Whether the scalar is a nonspacing (Mn) or enclosing (Me) mark, which takes no room of its own.
    private static func isMark(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return false }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark: return true
        default: return false
        }
    }
}
