/// Says whether bytes are one JSON value (RFC 8259), without building it.
///
/// Own code because it runs on every Enqueue: Foundation's parser builds the whole object tree
/// (`docs/architecture.md` has the measurement).
package enum JSONText {
    /// Deeper nesting is refused: a reader of the payload would have to recurse as deep.
    package static let depthMax = 128

    /// The longest key of an object, in bytes as it is written, without its quotes. Most readers put keys into a table, and
    /// Swift's takes time that grows with the square of a key's combining marks.
    package static let keyBytesMax = 1024

    package enum Verdict: Sendable {
        case valid
        case invalid
        /// It is JSON, but for a key of more than `keyBytesMax`.
        case keyTooLong
    }

    package static func verdict(on bytes: [UInt8]) -> Verdict {
        guard (try? UTF8Span(validating: bytes.span)) != nil else { return .invalid }
        var scanner = Scanner(bytes: bytes)
        guard scanner.document() else { return .invalid }
        return scanner.hasLongKey ? .keyTooLong : .valid
    }

    package static func isValid(_ bytes: [UInt8]) -> Bool {
        verdict(on: bytes) == .valid
    }

    private struct Scanner {
        let bytes: [UInt8]
        var position = 0
        var hasLongKey = false

        mutating func document() -> Bool {
            guard value(depth: 0) else { return false }
            skipSpace()
            return position == bytes.count
        }

        private mutating func key() -> Bool {
            let start = position
            guard current == UInt8(ascii: "\""), string() else { return false }
            if position - start - 2 > JSONText.keyBytesMax { hasLongKey = true }
            return true
        }

        private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

        private mutating func skipSpace() {
            while position < bytes.count {
                switch bytes[position] {
                case 0x20, 0x09, 0x0A, 0x0D: position += 1
                default: return
                }
            }
        }

        private mutating func take(_ byte: UInt8) -> Bool {
            guard current == byte else { return false }
            position += 1
            return true
        }

        private mutating func value(depth: Int) -> Bool {
            skipSpace()
            switch current {
            case UInt8(ascii: "{"): return members(depth: depth)
            case UInt8(ascii: "["): return elements(depth: depth)
            case UInt8(ascii: "\""): return string()
            case UInt8(ascii: "t"): return word("true")
            case UInt8(ascii: "f"): return word("false")
            case UInt8(ascii: "n"): return word("null")
            default: return number()
            }
        }

        private mutating func members(depth: Int) -> Bool {
            guard depth < JSONText.depthMax else { return false }
            position += 1
            skipSpace()
            if take(UInt8(ascii: "}")) { return true }
            while true {
                skipSpace()
                guard key() else { return false }
                skipSpace()
                guard take(UInt8(ascii: ":")), value(depth: depth + 1) else { return false }
                skipSpace()
                if take(UInt8(ascii: "}")) { return true }
                guard take(UInt8(ascii: ",")) else { return false }
            }
        }

        private mutating func elements(depth: Int) -> Bool {
            guard depth < JSONText.depthMax else { return false }
            position += 1
            skipSpace()
            if take(UInt8(ascii: "]")) { return true }
            while true {
                guard value(depth: depth + 1) else { return false }
                skipSpace()
                if take(UInt8(ascii: "]")) { return true }
                guard take(UInt8(ascii: ",")) else { return false }
            }
        }

        private mutating func string() -> Bool {
            position += 1
            while position < bytes.count {
                let byte = bytes[position]
                position += 1
                switch byte {
                case UInt8(ascii: "\""): return true
                case UInt8(ascii: "\\"): guard escape() else { return false }
                case 0..<0x20: return false
                default: break
                }
            }
            return false
        }

        private mutating func escape() -> Bool {
            guard let byte = current else { return false }
            position += 1
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
                UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
                return true
            case UInt8(ascii: "u"):
                for _ in 0..<4 {
                    guard let digit = current, Hex.value(of: digit) != nil else { return false }
                    position += 1
                }
                return true
            default: return false
            }
        }

        private mutating func word(_ word: String) -> Bool {
            guard bytes[position...].starts(with: word.utf8) else { return false }
            position += word.utf8.count
            return true
        }

        private mutating func number() -> Bool {
            _ = take(UInt8(ascii: "-"))
            if !take(UInt8(ascii: "0")) {
                guard digits() else { return false }
            }
            if take(UInt8(ascii: ".")) {
                guard digits() else { return false }
            }
            if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
                if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
                guard digits() else { return false }
            }
            return true
        }

        private mutating func digits() -> Bool {
            let start = position
            while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
            return position > start
        }
    }
}
