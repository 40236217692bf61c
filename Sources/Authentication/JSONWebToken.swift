internal import FoundationEssentials
internal import JobModel
import Support

/// The accepted signature algorithms. Each key has one of them, and a token's header must name the same one.
enum SignatureAlgorithm: String, Sendable, Hashable, CaseIterable {
    case rs256 = "RS256"
    case es256 = "ES256"
    case edDSA = "EdDSA"
}

extension CaseIterable where Self: RawRepresentable, RawValue == String {
    /// Compares the bytes of the raw values, because text from outside is not compared in normal form.
    init?(exactly text: String) {
        guard let found = Self.allCases.first(where: { $0.rawValue.hasSameBytes(as: text) }) else {
            return nil
        }
        self = found
    }
}

/// A signed JWT in compact form (RFC 7519, RFC 7515), split into its parts. Nothing in it is trusted yet.
struct JSONWebToken: Sendable {
    /// A limit for the header, which anyone can send and which is decoded before the signature is checked.
    /// Headers usually have a few hundred bytes; some issuers include their certificate.
    private static let headerBytesMax = 4096

    let algorithm: SignatureAlgorithm
    let keyID: String?
    /// Whether its `typ` says that it is an access token (RFC 9068). A token without `typ`, or with `JWT`,
    /// may be one too.
    let isAccessToken: Bool
    /// The signing input (RFC 7515 section 5.2): header and payload as they were received.
    let signed: [UInt8]
    let signature: [UInt8]
    private let payload: [UInt8]

    /// Whether the token looks like a JWT: three parts, none of which is empty.
    static func isLikely(_ token: [UInt8]) -> Bool {
        let parts = token.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return parts.count == 3 && !parts.contains(where: \.isEmpty)
    }

    init(_ token: [UInt8]) throws(AuthenticationError) {
        let parts = token.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 3, let header = Base64.url.decode(parts[0]),
            let payload = Base64.url.decode(parts[1]), let signature = Base64.url.decode(parts[2])
        else { throw .malformedToken }
        guard header.count <= Self.headerBytesMax else { throw .headerTooLong }
        guard JSONText.isValid(header),
            let fields = try? JSONDecoder().decode(Header.self, from: Data(header))
        else { throw .malformedToken }
        // RFC 7515, section 4.1.11: a token with a critical extension that is not understood must be refused.
        guard !fields.hasCritical else { throw .criticalHeader }
        switch fields.type.map(Self.kind(ofType:)) {
        case nil, .jwt?: isAccessToken = false
        case .accessToken?: isAccessToken = true
        case .other?: throw .unsupportedType
        }
        guard let algorithm = SignatureAlgorithm(exactly: fields.algorithm) else {
            throw .unsupportedAlgorithm
        }
        // No key has a longer id.
        guard fields.keyID?.utf8.count ?? 0 <= VerificationKey.idBytesMax else { throw .unknownKey }
        self.algorithm = algorithm
        self.keyID = fields.keyID
        self.signed = Array(token[..<parts[1].endIndex])
        self.signature = signature
        self.payload = payload
    }

    private enum Kind {
        case jwt, accessToken, other
    }

    /// The kind of token that `typ` names: `JWT`, or `at+jwt` for access tokens (RFC 9068). RFC 7515, section
    /// 4.1.9, also allows `application/at+jwt`, and case does not matter. An issuer signs other things with
    /// the same keys, such as logout tokens and security events, and `typ` tells them apart (RFC 8725,
    /// section 3.11).
    private static func kind(ofType type: String) -> Kind {
        let prefix = "application/".utf8
        guard type.utf8.count <= 64 else { return .other }
        var name = type.utf8.map { (0x41...0x5A).contains($0) ? $0 | 0x20 : $0 }[...]
        if name.starts(with: prefix) { name = name.dropFirst(prefix.count) }
        if name.elementsEqual("jwt".utf8) { return .jwt }
        return name.elementsEqual("at+jwt".utf8) ? .accessToken : .other
    }

    /// The claims of a token whose signature has been verified.
    func claims(usersClaim: String) throws(AuthenticationError) -> Claims {
        guard JSONText.isValid(payload) else { throw .malformedClaims }
        do {
            return try JSONDecoder().decode(Claims.self, from: Data(payload), configuration: usersClaim)
        } catch let error as AuthenticationError {
            throw error
        } catch {
            throw .malformedClaims
        }
    }

    /// The fields of the header. Keys in it (`jwk`, `jku`, `x5c`) are ignored, because any sender can put a
    /// key there.
    private struct Header: Decodable {
        let algorithm: String
        let keyID: String?
        let type: String?
        let hasCritical: Bool

        enum CodingKeys: String, CodingKey {
            case algorithm = "alg"
            case keyID = "kid"
            case type = "typ"
            case critical = "crit"
        }

        init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            algorithm = try fields.decode(String.self, forKey: .algorithm)
            keyID = try fields.decodeIfPresent(String.self, forKey: .keyID)
            type = try fields.decodeIfPresent(String.self, forKey: .type)
            hasCritical = fields.contains(.critical)
        }
    }
}

extension JSONWebToken {
    /// The claims of a token about its bearer.
    struct Claims: DecodableWithConfiguration {
        let issuer: String?
        let audience: [String]
        let subject: String?
        let expiry: Timestamp?
        let notBefore: Timestamp?
        let scopes: Set<Scope>
        let users: UserGrant

        /// - Parameter usersClaim: the name of the claim about users.
        init(from decoder: any Decoder, configuration usersClaim: String) throws {
            let claims = try decoder.container(keyedBy: Name.self)
            issuer = try claims.decodeIfPresent(String.self, forKey: "iss")
            audience = try Self.texts(claims, "aud", areWords: false) ?? []
            subject = try claims.decodeIfPresent(String.self, forKey: "sub")
            expiry = try claims.decodeIfPresent(Double.self, forKey: "exp").map(
                Timestamp.init(secondsSince1970:))
            notBefore = try claims.decodeIfPresent(Double.self, forKey: "nbf")
                .map(Timestamp.init(secondsSince1970:))
            // RFC 8693 defines `scope`; some issuers use the other names. Scopes of other services are
            // ignored.
            let names =
                try Self.texts(claims, "scope", areWords: true) ?? Self.texts(claims, "scp", areWords: true)
                ?? Self.texts(claims, "scopes", areWords: true) ?? []
            scopes = Set(names.compactMap(Scope.init(exactly:)))
            users = try Self.users(claims, usersClaim)
        }

        /// The texts of a claim that is a list of texts or one text. With `areWords`, the one text has
        /// several words. Nil if there is no such claim.
        private static func texts(
            _ claims: KeyedDecodingContainer<Name>, _ name: Name, areWords: Bool
        ) throws -> [String]? {
            guard claims.contains(name), try !claims.decodeNil(forKey: name) else { return nil }
            guard let text = try? claims.decode(String.self, forKey: name) else {
                return try claims.decode([String].self, forKey: name)
            }
            guard areWords else { return [text] }
            return text.utf8.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
        }

        /// The users that a token may act for. A claim that cannot be read is an error and must not fall back
        /// to a default.
        private static func users(_ claims: KeyedDecodingContainer<Name>, _ claim: String) throws -> UserGrant
        {
            let name = Name(stringValue: claim)
            guard claims.contains(name) else { return .itself }
            if let text = try? claims.decode(String.self, forKey: name), text.hasSameBytes(as: "*") {
                return .all
            }
            guard let users = try? claims.decode([String].self, forKey: name),
                users.count <= UserGrant.usersMax, users.allSatisfy(PrincipalName.isValid)
            else { throw AuthenticationError.badUsers }
            return .only(Set(users.map(ExactText.init(_:))))
        }

        private struct Name: CodingKey, ExpressibleByStringLiteral {
            let stringValue: String
            var intValue: Int? { nil }

            init(stringValue: String) { self.stringValue = stringValue }
            init(stringLiteral: String) { stringValue = stringLiteral }
            init?(intValue: Int) { nil }
        }
    }
}

extension JWTConfiguration {
    /// The principal of these claims at `now`.
    func principal(
        of claims: JSONWebToken.Claims, keyID: String?, now: Timestamp
    ) throws(AuthenticationError) -> Principal {
        // RFC 7519, section 7.3: compared by code points, without normalization.
        guard let from = claims.issuer, from.hasSameBytes(as: issuer) else { throw .wrongIssuer }
        guard claims.audience.contains(where: { $0.hasSameBytes(as: audience) }) else { throw .wrongAudience }
        guard let expiry = claims.expiry else { throw .expiryMissing }
        let latest = expiry.advanced(by: leeway)
        guard now < latest else { throw .expired }
        if let notBefore = claims.notBefore, now.advanced(by: leeway) < notBefore { throw .notYetValid }
        guard let subject = claims.subject, PrincipalName.isValid(subject) else { throw .badSubject }
        // The leeway admits a token that has just expired, because the issuer's clock may differ from ours.
        // It does not keep a stream open: a stream that began before ends with its token, and one that begins
        // now ends soon.
        return Principal(
            name: subject, scopes: claims.scopes, users: claims.users.users(of: subject),
            expiry: now < expiry ? expiry : min(latest, now.advanced(by: Self.leewayGrant)),
            source: .jwt(keyID: keyID))
    }

    /// The time for which a token is valid that is admitted only by the leeway: enough for a unary call. Streams are
    /// checked every two seconds, so one that began with such a token ends within 5 s.
    private static let leewayGrant = Duration.seconds(2)
}
