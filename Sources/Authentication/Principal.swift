package import JobModel
package import Support
internal import Synchronization

/// The caller that a credential identifies.
package struct Principal: Sendable, Hashable {
    /// The name in the audit, valid by `PrincipalName`.
    package var name: String
    package var scopes: Set<Scope>
    /// The users that it may act for.
    package var users: UserScope
    /// The time at which the credentials expire; nil: never.
    package var expiry: Timestamp?
    package var source: CredentialSource

    package init(
        name: String, scopes: Set<Scope>, users: UserScope, expiry: Timestamp? = nil, source: CredentialSource
    ) {
        self.name = name
        self.scopes = scopes
        self.users = users
        self.expiry = expiry
        self.source = source
    }
}

/// The kind of credential that a principal comes from, with what revokes it.
package enum CredentialSource: Sendable, Hashable {
    /// An entry of the token file. It is revoked when the entry is removed or changed.
    case tokenFile
    /// A JWT. It is revoked when its key is withdrawn. `keyID` is nil for an only key that has no id.
    case jwt(keyID: String?)
    /// A certificate, by the name that a rule matches. It cannot be revoked; it expires.
    case certificate(SubjectAlternativeName)

    /// The source as the audit log names it.
    package var ofCaller: Caller.Source {
        switch self {
        case .tokenFile: .token
        case .jwt: .jwt
        case .certificate: .certificate
        }
    }
}

/// The users that an entry of the token file or a rule grants, before the principal's name is known.
package enum UserGrant: Sendable, Hashable {
    /// The user with the same name as the principal.
    case itself
    case all
    case only(Set<ExactText>)

    package static let usersMax = 10_000

    package func users(of name: String) -> UserScope {
        switch self {
        case .itself: .only([ExactText(name)])
        case .all: .all
        case .only(let users): .only(users)
        }
    }
}

/// The credential that a caller was admitted with. It is an object, so that a stream can check often and cheaply
/// whether it is still valid.
package final class Credential: Sendable {
    package let principal: Principal
    private let revocation: Revocation

    init(_ principal: Principal, revocation: Revocation) {
        self.principal = principal
        self.revocation = revocation
    }

    /// Whether the credential is neither revoked nor expired. It takes two comparisons: cheap enough for
    /// thousands of streams each second.
    package func isValid(now: Timestamp) -> Bool {
        guard !revocation.isRevoked else { return false }
        guard let expiry = principal.expiry else { return true }
        return now < expiry
    }

    /// The reason why the credential is not valid; nil while it is valid.
    package func problem(now: Timestamp) -> AuthenticationError? {
        if isValid(now: now) { return nil }
        return revocation.isRevoked ? .revoked : .expired
    }
}

/// A flag that is set once, when the basis of credentials is gone. Each entry of the token file and each key
/// has one, which all its credentials share, so they can be revoked without being found.
final class Revocation: Sendable {
    // No other memory is read because of this flag, so relaxed ordering is enough.
    private let flag = Atomic(false)

    var isRevoked: Bool { flag.load(ordering: .relaxed) }

    func revoke() { flag.store(true, ordering: .relaxed) }
}
