import Crypto
import Foundation
import JobModel
import Support

/// Makes and reads page tokens: where the next page of a list begins, for the same filters and the same caller.
///
/// A token contains a job's number in the database, which would tell how many jobs all users have had. So it is encrypted
/// and authenticated, and a token that was not made for these filters and this caller is refused.
package struct PageTokens: Sendable {
    /// The name of the secret in the database. All nodes share it, so each can read the tokens of the others.
    package static let secretName: StaticString = "page_token"

    /// The length of a token: nonce, number and authentication tag are 36 bytes, written in base64.
    private static let tokenBytes = 48

    private let secret: SymmetricKey

    /// - Parameter secret: 32 random bytes, which are the same on all nodes.
    package init(secret: [UInt8]) {
        self.secret = SymmetricKey(data: secret)
    }

    func encode(_ number: Int64, _ filter: JobFilter, for caller: Caller) throws(ServiceError) -> String {
        let bytes = withUnsafeBytes(of: number.bigEndian) { Data($0) }
        do {
            return try ChaChaPoly.seal(bytes, using: key(filter, caller)).combined.base64EncodedString()
        } catch {
            throw .broken("a page token could not be encrypted: \(error)")
        }
    }

    /// Nil where the token was not made for these filters and this caller.
    func decode(_ token: String, _ filter: JobFilter, for caller: Caller) -> Int64? {
        guard token.utf8.count == Self.tokenBytes, let sealed = Data(base64Encoded: token),
            let box = try? ChaChaPoly.SealedBox(combined: sealed),
            let bytes = try? ChaChaPoly.open(box, using: key(filter, caller)), bytes.count == 8
        else { return nil }
        return Int64(bitPattern: bytes.reduce(0) { $0 << 8 | UInt64($1) })
    }

    /// Each list and caller has a key of its own, so that random nonces of 96 bits suffice for all tokens of one key.
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
        // In the order of their bytes, because a dictionary has none.
        for (key, value) in filter.labels.sorted(by: { $0.key < $1.key }) {
            context.add(key.text)
            context.add(value.text)
        }
        return HKDF<SHA256>.deriveKey(inputKeyMaterial: secret, info: context.bytes, outputByteCount: 32)
    }

    /// Concatenates texts, each after its length, so that different lists of texts give different bytes.
    private struct Context {
        private(set) var bytes = Data()

        mutating func add(_ text: String?) {
            withUnsafeBytes(of: Int64(text?.utf8.count ?? -1).bigEndian) { bytes.append(contentsOf: $0) }
            if let text { bytes.append(contentsOf: text.utf8) }
        }
    }
}
