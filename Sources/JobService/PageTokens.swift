import Crypto
import Foundation
import JobModel
import Support

/// A list of which there are pages: the method and its filters. A page token is for one list.
struct PagedList: Sendable {
    fileprivate private(set) var context = Data()

    /// - Parameter filters: in an order that the method fixes. Nil and the empty text are different filters.
    init(_ method: String, _ filters: String?...) {
        add("signalbox page token 2")
        add(method)
        for filter in filters { add(filter) }
    }

    /// Each text is written behind its length, so that different lists of texts give different bytes.
    mutating func add(_ text: String?) {
        withUnsafeBytes(of: Int64(text?.utf8.count ?? -1).bigEndian) { context.append(contentsOf: $0) }
        if let text { context.append(contentsOf: text.utf8) }
    }
}

/// Makes and reads page tokens. A token contains the position behind which the next page begins, and when it was made. It is
/// for the same list and the same caller, and is valid for three days. It gives no rights.
///
/// A position may be a job's number in the database, which would tell how many jobs all users have had. So a token is
/// encrypted and authenticated.
package struct PageTokens: Sendable {
    /// The name of the secret in the database. All nodes share it, so each can read the tokens of the others.
    package static let secretName: StaticString = "page_token"

    /// The time for which a token is valid.
    static let lifetime: Duration = .seconds(3 * 86_400)

    /// The length of a token: nonce, position, time and authentication tag are 44 bytes, written in base64.
    private static let tokenBytes = 60

    private let secret: SymmetricKey

    /// - Parameter secret: 32 random bytes, which are the same on all nodes.
    package init(secret: [UInt8]) {
        self.secret = SymmetricKey(data: secret)
    }

    func encode(
        _ position: Int64, of list: PagedList, for caller: Caller, now: Timestamp
    ) throws(ServiceError) -> String {
        var bytes = Data()
        for number in [position, now.microseconds] {
            withUnsafeBytes(of: number.bigEndian) { bytes.append(contentsOf: $0) }
        }
        do {
            return try ChaChaPoly.seal(bytes, using: key(list, caller)).combined.base64EncodedString()
        } catch {
            throw .broken("a page token could not be encrypted: \(error)")
        }
    }

    /// The position in a token; nil if the token is empty, which stands for the first page. Throws `pageTokenInvalid` if the
    /// token was made for another list or caller, or is too old.
    func decode(
        _ token: ExactText, of list: PagedList, for caller: Caller, now: Timestamp
    ) throws(ServiceError) -> Int64? {
        guard !token.isEmpty else { return nil }
        guard token.utf8.count == Self.tokenBytes, let sealed = Data(base64Encoded: token.text),
            let box = try? ChaChaPoly.SealedBox(combined: sealed),
            let bytes = try? ChaChaPoly.open(box, using: key(list, caller)), bytes.count == 16
        else { throw .pageTokenInvalid }
        let numbers = [bytes.prefix(8), bytes.suffix(8)].map { part in
            Int64(bitPattern: part.reduce(0) { $0 << 8 | UInt64($1) })
        }
        guard now <= Timestamp(microseconds: numbers[1]).advanced(by: Self.lifetime) else {
            throw .pageTokenInvalid
        }
        return numbers[0]
    }

    /// Each list and caller has a key of its own, so that random nonces of 96 bits suffice for all tokens of one key.
    private func key(_ list: PagedList, _ caller: Caller) -> SymmetricKey {
        var list = list
        list.add(caller.source.rawValue)
        list.add(caller.name)
        return HKDF<SHA256>.deriveKey(inputKeyMaterial: secret, info: list.context, outputByteCount: 32)
    }
}
