/// The reason why a caller is refused.
///
/// The message is sent to the caller and written to logs. All messages are constants in this file, so none
/// can contain a part of a credential.
package struct AuthenticationError: Error, Sendable, Hashable, CustomStringConvertible {
    package enum Code: String, Sendable, Hashable, CaseIterable {
        case missingCredentials
        case malformedHeader
        case malformedToken
        case unknownToken
        case unsupportedType
        case unsupportedAlgorithm
        case unknownKey
        case badSignature
        case wrongIssuer
        case wrongAudience
        case notYetValid
        case expired
        case revoked
        case malformedCertificate
        case unknownCertificate
        /// The credential was not judged, because the keys to check its token with are not available.
        case keySourceUnavailable
        /// The credential was not judged, because too many tokens are being checked already.
        case tooManyChecks
    }

    package let code: Code
    package let message: String

    private init(_ code: Code, _ message: StaticString) {
        self.code = code
        self.message = message.description
    }

    package var description: String { message }

    /// Whether the same credential may be accepted a little later. The call is then answered UNAVAILABLE
    /// instead of UNAUTHENTICATED.
    package var isTemporary: Bool { code == .keySourceUnavailable || code == .tooManyChecks }
}

extension AuthenticationError {
    static let missingCredentials = Self(.missingCredentials, "credentials are required: send a bearer token")
    static let missingCertificate = Self(
        .missingCredentials, "credentials are required: send a bearer token or present a client certificate")
    static let malformedHeader = Self(
        .malformedHeader, "the authorization header must be 'Bearer' and a token")
    static let tokenTooLong = Self(.malformedToken, "the token is longer than 8192 bytes")
    static let unknownToken = Self(.unknownToken, "the token is unknown")
    static let malformedToken = Self(.malformedToken, "the token is not a signed JWT")
    static let headerTooLong = Self(.malformedToken, "the token's header is longer than 4096 bytes")
    static let criticalHeader = Self(
        .malformedToken, "the token's header has crit, but no critical extension is supported")
    static let keyIDMissing = Self(
        .malformedToken,
        "the token's header has no kid, which is required because the issuer has several keys")
    static let malformedClaims = Self(.malformedToken, "the token's claims cannot be decoded")
    static let expiryMissing = Self(.malformedToken, "the token has no exp claim")
    // The messages of both errors end with the text of `PrincipalName.rule`.
    static let badSubject = Self(
        .malformedToken,
        "the token's sub claim is not 1 to 256 bytes of text without hidden, blank or private-use characters, without a space at either end, and with at most 8 combining marks in a row and none at the beginning"
    )
    static let badUsers = Self(
        .malformedToken,
        "the token's users claim is neither \"*\" nor a list of at most 10000 names, each 1 to 256 bytes of text without hidden, blank or private-use characters, without a space at either end, and with at most 8 combining marks in a row and none at the beginning"
    )
    static let unsupportedType = Self(
        .unsupportedType, "the token's header has a typ that is neither JWT nor at+jwt")
    static let noAccessToken = Self(.unsupportedType, "the token's header does not have the typ at+jwt")
    static let unsupportedAlgorithm = Self(
        .unsupportedAlgorithm, "the token is not signed with RS256, ES256 or EdDSA")
    static let otherAlgorithm = Self(
        .unsupportedAlgorithm, "the token's algorithm does not match its key")
    static let unknownKey = Self(.unknownKey, "the key that signed the token is unknown")
    static let badSignature = Self(.badSignature, "the token's signature is invalid")
    static let wrongIssuer = Self(.wrongIssuer, "the token is from another issuer")
    static let wrongAudience = Self(.wrongAudience, "the token is for another audience")
    static let notYetValid = Self(.notYetValid, "the credentials are not valid yet")
    static let expired = Self(.expired, "the credentials have expired")
    static let revoked = Self(.revoked, "the credentials were revoked")
    static let malformedCertificate = Self(
        .malformedCertificate, "the client certificate, or its alternative names, cannot be read")
    static let unknownCertificate = Self(
        .unknownCertificate, "no rule matches a name of the client certificate")
    static let keySourceUnavailable = Self(
        .keySourceUnavailable, "the keys to verify the token are unavailable: try again")
    static let tooManyChecks = Self(
        .tooManyChecks, "too many tokens are being verified: try again")
}
