internal import FoundationEssentials
internal import JWTKit
import Support

/// The public keys of an issuer, from a JSON Web Key Set (RFC 7517).
struct KeySet: Sendable {
    static let bytesMax = 1 << 20
    static let keysMax = 100

    /// The keys that can be used.
    let keys: [VerificationKey]
    private let byID: [ExactText: VerificationKey]

    enum Search {
        case found(VerificationKey)
        case missing
        /// The token does not say by which of several keys it is signed.
        case ambiguous
    }

    /// - Parameters:
    ///   - previous: the key set before this one. Its keys that are still in the set are kept, so credentials
    ///     that depend on them stay valid.
    ///   - skipped: receives a line for each key that is left out, with the reason.
    init(json: [UInt8], previous: KeySet? = nil, skipped: inout [String]) throws(KeySetError) {
        guard json.count <= Self.bytesMax else {
            throw KeySetError("is larger than \(Self.bytesMax) bytes")
        }
        guard JSONText.isValid(json),
            let document = try? JSONDecoder().decode(JWKSDocument.self, from: Data(json))
        else {
            throw KeySetError("is not a JSON Web Key Set, which is an object with a list named keys")
        }
        guard document.keys.count <= Self.keysMax else {
            throw KeySetError("has more than \(Self.keysMax) keys")
        }
        var keys: [VerificationKey] = []
        var byID: [ExactText: VerificationKey] = [:]
        for (index, entry) in document.keys.enumerated() {
            do throws(KeySetError) {
                let fresh = try VerificationKey(entry)
                let key = previous?.keys.first { $0.isSame(as: fresh) } ?? fresh
                if let id = key.id {
                    guard byID[ExactText(id)] == nil else {
                        throw KeySetError("has the same kid as an earlier key")
                    }
                    byID[ExactText(id)] = key
                }
                keys.append(key)
            } catch {
                skipped.append("keys[\(index)] \(error.problem)")
            }
        }
        self.keys = keys
        self.byID = byID
    }

    func search(_ id: String?) -> Search {
        // A key without an id matches only if it is the only key and the token names no id. A token that
        // names an id means another key. (JWTKit's own collection would fall back to its default key.)
        guard let id else {
            return keys.count > 1 ? .ambiguous : keys.first.map { .found($0) } ?? .missing
        }
        return byID[ExactText(id)].map { .found($0) } ?? .missing
    }

    /// The ids by which no key is found in `next` any more.
    func idsMissing(in next: KeySet) -> [ExactText] {
        byID.keys.filter { next.byID[$0] == nil }
    }

    /// Revokes the credentials that depend on keys that are not in `next`.
    func revokeMissing(in next: KeySet) {
        for key in keys where !next.keys.contains(where: { $0 === key }) {
            key.revocation.revoke()
        }
    }
}

/// A problem of a key set or of one of its keys. The text continues a sentence that begins with the name of
/// the key set or the key.
struct KeySetError: Error {
    let problem: String

    init(_ problem: String) { self.problem = problem }
}

/// A public key and the one algorithm that it is used with.
final class VerificationKey: Sendable {
    private enum Material: Equatable, Sendable {
        case rsa(Insecure.RSA.PublicKey)
        case ecdsa(ES256PublicKey)
        case edDSA(EdDSA.PublicKey)
    }

    static let idBytesMax = 1_024
    /// The largest RSA keys that BoringSSL checks in reasonable time. JWTKit refuses keys of less than 2,048 bits.
    private static let rsaModulusBytesMax = 1_024

    let id: String?
    let algorithm: SignatureAlgorithm
    let revocation = Revocation()
    private let material: Material

    fileprivate init(_ entry: JWKSDocument.Entry) throws(KeySetError) {
        guard let jwk = entry.key else { throw KeySetError("is not a supported key") }
        guard jwk.use?.hasSameBytes(as: "sig") != false,
            jwk.operations?.contains(where: { $0.hasSameBytes(as: "verify") }) != false
        else {
            throw KeySetError("is not for signatures")
        }
        guard jwk.id?.utf8.count ?? 0 <= Self.idBytesMax else {
            throw KeySetError("has a kid of more than \(Self.idBytesMax) bytes")
        }
        // Anyone who can read the key set could sign tokens with a private key.
        guard !jwk.isPrivate else { throw KeySetError("is a private key") }
        id = jwk.id
        do {
            switch (ExactText(jwk.type), ExactText(jwk.curve ?? ""), ExactText(jwk.algorithm ?? "")) {
            case ("RSA", _, "RS256"), ("RSA", _, ""):
                algorithm = .rs256
                let modulus = try jwk.modulus.base64URL(1...Self.rsaModulusBytesMax)
                let exponent = try jwk.exponent.base64URL(1...8)
                material = .rsa(try Insecure.RSA.PublicKey(modulus: modulus, exponent: exponent))
            case ("EC", "P-256", "ES256"), ("EC", "P-256", ""):
                algorithm = .es256
                let coordinates = (x: try jwk.x.base64URL(32...32), y: try jwk.y.base64URL(32...32))
                material = .ecdsa(try ES256PublicKey(parameters: coordinates))
            case ("OKP", "Ed25519", "EdDSA"), ("OKP", "Ed25519", ""):
                algorithm = .edDSA
                material = .edDSA(try EdDSA.PublicKey(x: try jwk.x.base64URL(32...32), curve: .ed25519))
            default:
                throw KeySetError("cannot be used with RS256, ES256 (P-256) or EdDSA (Ed25519)")
            }
        } catch let error as KeySetError {
            throw error
        } catch {
            throw KeySetError("is invalid, or is an RSA key of less than 2048 bits")
        }
    }

    private var exactID: ExactText? { id.map { ExactText($0) } }

    func isSame(as other: VerificationKey) -> Bool {
        exactID == other.exactID && algorithm == other.algorithm && material == other.material
    }

    /// Verifies a signature. It takes a good part of a millisecond on a slow machine, so it must not run on
    /// event loops.
    func isValid(_ signature: [UInt8], of signed: [UInt8]) async -> Bool {
        // A collection of one key, so the algorithm is the one that was chosen here.
        let keys = JWTKeyCollection()
        switch material {
        case .rsa(let key): await keys.add(rsa: key, digestAlgorithm: .sha256)
        case .ecdsa(let key): await keys.add(ecdsa: key)
        case .edDSA(let key): await keys.add(eddsa: key)
        }
        // A malformed signature makes it throw.
        guard let verifier = try? await keys.getKey(), verifier.name == algorithm.rawValue else {
            return false
        }
        return (try? verifier.verify(signature, signs: signed)) ?? false
    }
}

extension String? {
    /// The text itself, if it is base64url and its decoded length is in the range `bytes`.
    fileprivate func base64URL(_ bytes: ClosedRange<Int>) throws(KeySetError) -> String {
        guard let self, let decoded = Base64.url.decode(Array(self.utf8)[...]), bytes.contains(decoded.count)
        else {
            throw KeySetError("lacks a parameter, or has one that is not base64url of the right length")
        }
        return self
    }
}

/// The JSON of a key set. JWTKit's own type refuses the whole set if the kind of one key is unknown to it.
private struct JWKSDocument: Decodable {
    let keys: [Entry]

    struct Entry: Decodable {
        /// Nil for an entry that is not a key of a known kind.
        let key: JWK?

        init(from decoder: any Decoder) {
            key = try? JWK(from: decoder)
        }
    }

    struct JWK: Decodable {
        let type: String
        let use: String?
        let operations: [String]?
        let algorithm: String?
        let id: String?
        let modulus: String?
        let exponent: String?
        let curve: String?
        let x: String?
        let y: String?
        let isPrivate: Bool

        enum CodingKeys: String, CodingKey {
            case type = "kty"
            case use
            case operations = "key_ops"
            case algorithm = "alg"
            case id = "kid"
            case modulus = "n"
            case exponent = "e"
            case curve = "crv"
            case x
            case y
            case privatePart = "d"
        }

        init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            type = try fields.decode(String.self, forKey: .type)
            use = try fields.decodeIfPresent(String.self, forKey: .use)
            operations = try fields.decodeIfPresent([String].self, forKey: .operations)
            algorithm = try fields.decodeIfPresent(String.self, forKey: .algorithm)
            id = try fields.decodeIfPresent(String.self, forKey: .id)
            modulus = try fields.decodeIfPresent(String.self, forKey: .modulus)
            exponent = try fields.decodeIfPresent(String.self, forKey: .exponent)
            curve = try fields.decodeIfPresent(String.self, forKey: .curve)
            x = try fields.decodeIfPresent(String.self, forKey: .x)
            y = try fields.decodeIfPresent(String.self, forKey: .y)
            isPrivate = fields.contains(.privatePart)
        }
    }
}
