import GRPC
package import JobModel
package import Support

/// The accepted credentials. If none are set, calls need no credentials.
package struct AuthenticationSettings: Sendable, Hashable {
    /// The file with the hashes of bearer tokens.
    package var tokens: String?
    /// The issuer's keys for JWTs: a file, or an http or https address.
    package var keySet: String?
    package var issuer: String?
    package var audience: String?
    package var leeway = Duration.seconds(30)
    package var usersClaim = "signalbox_users"
    package var tokenType = JWTType.any
    /// The rules for client certificates. They can only be given in the file of settings.
    package var certificates: [CertificateSettings] = []

    package init() {}

    /// Whether the keys come from another machine without TLS, where a machine between can replace them.
    package var fetchesKeysInTheClear: Bool {
        guard let keySet, keySet.lowercased().hasPrefix("http://") else { return false }
        let authority = keySet.dropFirst("http://".count).prefix { $0 != "/" && $0 != "?" }
        let host = HostPort(String(authority)) ?? HostPort("\(authority):80")
        return host?.isLoopback != true
    }

    package var isOn: Bool { tokens != nil || keySet != nil || !certificates.isEmpty }
}

/// The required `typ` in the header of a JWT.
package enum JWTType: String, Sendable, Hashable, CaseIterable {
    /// A token without `typ`, or with `JWT` or `at+jwt`.
    case any
    case accessToken = "at+jwt"
}

/// The principal of client certificates that have this name.
package struct CertificateSettings: Sendable, Hashable {
    package enum Users: Sendable, Hashable {
        /// The user with the same name as the certificate's owner.
        case itself
        case all
        case only(Set<ExactText>)
    }

    /// The pattern for the certificate's names: `dns:…`, `uri:…` or `email:…`.
    package var name: String
    /// The name of the principal in the audit; nil: the name in the certificate.
    package var principal: String?
    package var scopes: Set<Scope>
    package var users: Users

    package init(name: String, principal: String?, scopes: Set<Scope>, users: Users) {
        self.name = name
        self.principal = principal
        self.scopes = scopes
        self.users = users
    }
}
