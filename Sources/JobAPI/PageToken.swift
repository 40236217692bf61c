import Foundation
import JobCore
import Support

/// Where the next page of a list begins, and which list it is of: a token that was not made for the same
/// filters is refused.
enum PageToken {
    static func encode(_ number: Int64, _ filter: JobFilter) -> String {
        var bytes = Data()
        withUnsafeBytes(of: number.bigEndian) { bytes.append(contentsOf: $0) }
        withUnsafeBytes(of: digest(number, filter).bigEndian) { bytes.append(contentsOf: $0) }
        return bytes.base64EncodedString()
    }

    static func decode(_ token: String, _ filter: JobFilter) -> Int64? {
        guard token.utf8.count <= 64, let bytes = Data(base64Encoded: token), bytes.count == 16 else {
            return nil
        }
        func word(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
        let number = Int64(bitPattern: word(0..<8))
        return word(8..<16) == digest(number, filter) ? number : nil
    }

    /// FNV-1a, 64 bits: it tells mistakes apart, not attackers; a token grants nothing.
    private static func digest(_ number: Int64, _ filter: JobFilter) -> UInt64 {
        let labels = filter.labels.sorted { $0.key < $1.key }.map { "\($0.key.text)\u{1}\($0.value.text)" }
        let text = [
            "signalbox", "\(number)", filter.userID?.text ?? "", filter.queue ?? "", filter.kind ?? "",
            filter.states.map(\.rawValue).sorted().joined(separator: ","), labels.joined(separator: "\u{2}"),
            filter.createdFrom.map { "\($0.microseconds)" } ?? "",
            filter.createdTo.map { "\($0.microseconds)" } ?? "",
        ].joined(separator: "\0")
        return text.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }
}
