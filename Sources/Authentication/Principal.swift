package import JobModel
package import Support
internal import Synchronization

/// The caller that credentials name.
package struct Principal: Sendable, Hashable {
    /// For the audit. As `PrincipalName` has it.
    package var name: String
    package var scopes: Set<Scope>
    /// For whom it may act.
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

/// Where a principal comes from, and what takes it away.
package enum CredentialSource: Sendable, Hashable {
    /// An entry of the token file: revoked when that is removed or changed.
    case tokenFile
    /// A JWT: revoked when its key is withdrawn. Nil: the only key, which has no id.
    case jwt(keyID: String?)
    /// The certificate's name that a rule knows. Not revoked: it expires.
    case certificate(SubjectAlternativeName)

    /// The name in the audit log.
    package var ofCaller: Caller.Source {
        switch self {
        case .tokenFile: .token
        case .jwt: .jwt
        case .certificate: .certificate
        }
    }
}

/// The users that an entry of the token file or a rule names, before it is known who it is for.
package enum UserGrant: Sendable, Hashable {
    /// The user that is called as the principal is.
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

/// What a caller was let in with. One object serves all its calls, so that a stream can ask again and again
/// whether it still holds.
package final class Credential: Sendable {
    package let principal: Principal
    private let revocation: Revocation

    init(_ principal: Principal, revocation: Revocation) {
        self.principal = principal
        self.revocation = revocation
    }

    /// Two comparisons: cheap enough for thousands of streams each second.
    package func isValid(now: Timestamp) -> Bool {
        guard !revocation.isRevoked else { return false }
        guard let expiry = principal.expiry else { return true }
        return now < expiry
    }

    /// Nil while it is valid.
    package func problem(now: Timestamp) -> AuthenticationError? {
        if isValid(now: now) { return nil }
        return revocation.isRevoked ? .revoked : .expired
    }
}

/// Set once, when what vouched for a credential is gone: one for each entry of the token file and each key, and
/// shared by all credentials of it. So they need not be found to be revoked.
final class Revocation: Sendable {
    // Nothing else is read because of it, so no order is needed.
    private let flag = Atomic(false)

    var isRevoked: Bool { flag.load(ordering: .relaxed) }

    func revoke() { flag.store(true, ordering: .relaxed) }
}
