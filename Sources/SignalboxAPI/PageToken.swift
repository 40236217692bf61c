import Crypto
import Foundation
import JobModel
import Support

/// Where the next page of a list begins, for the same filters and the caller that was given the token.
///
/// A token has a job's running number, of which each tells how many jobs all users have had. So it is encrypted, and
/// authenticated: what was not made here, for these filters and this caller, is refused.
package struct PageTokens: Sendable {
    /// In the database: every node has to be able to read the tokens of the others.
    package static let secretName: StaticString = "page_token"

    /// The length of a token: nonce, number and authentication tag are 36 bytes, written in base64.
    private static let tokenBytes = 48

    private let secret: SymmetricKey

    /// - Parameter secret: 32 random bytes, the same on all nodes.
    package init(secret: [UInt8]) {
        self.secret = SymmetricKey(data: secret)
    }

    func encode(_ number: Int64, _ filter: JobFilter, for caller: Caller) throws -> String {
        let bytes = withUnsafeBytes(of: number.bigEndian) { Data($0) }
        return try ChaChaPoly.seal(bytes, using: key(filter, caller)).combined.base64EncodedString()
    }

    /// Nil: it is not one of ours for these filters and this caller.
    func decode(_ token: String, _ filter: JobFilter, for caller: Caller) -> Int64? {
        guard token.utf8.count == Self.tokenBytes, let sealed = Data(base64Encoded: token),
            let box = try? ChaChaPoly.SealedBox(combined: sealed),
            let bytes = try? ChaChaPoly.open(box, using: key(filter, caller)), bytes.count == 8
        else { return nil }
        return Int64(bitPattern: bytes.reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// A key for each list and caller: random nonces of 96 bits do for as many tokens as one of them ever gets.
    private func key(_ filter: JobFilter, _ caller: Caller) -> SymmetricKey {
        var context = Context()
        context.add("signalbox page token 1")
        context.add(caller.source.rawValue)
        context.add(caller.name)
        context.add(filter.userID?.text)
        context.add(filter.queue)
        context.add(filter.kind)
        context.add(filter.states.map(\.rawValue).sorted().joined(separator: ","))
        context.add(filter.createdFrom.map { "\($0.microseconds)" })
        context.add(filter.createdTo.map { "\($0.microseconds)" })
        // In one order, by their bytes.
        for (key, value) in filter.labels.sorted(by: { $0.key < $1.key }) {
            context.add(key.text)
            context.add(value.text)
        }
        return HKDF<SHA256>.deriveKey(inputKeyMaterial: secret, info: context.bytes, outputByteCount: 32)
    }

    /// Texts one after another, each with its length, so that no two lists of texts are the same bytes.
    private struct Context {
        private(set) var bytes = Data()

        mutating func add(_ text: String?) {
            withUnsafeBytes(of: Int64(text?.utf8.count ?? -1).bigEndian) { bytes.append(contentsOf: $0) }
            if let text { bytes.append(contentsOf: text.utf8) }
        }
    }
}
