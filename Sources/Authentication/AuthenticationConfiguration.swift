// exact in this file: settings are the operator's.

package import FoundationEssentials
package import JobModel
import Support

/// The accepted credentials. Kinds of credentials that are not configured are refused.
package struct AuthenticationConfiguration: Sendable, Hashable {
    /// The path of a `TokenFile`; nil: no bearer tokens of our own.
    package var tokenFile: String?
    package var jwt: JWTConfiguration?
    /// The rules for client certificates. The first rule that matches a name of the certificate applies.
    package var certificates: [CertificateRule] = []

    package static let certificateRulesMax = 1_000

    package init() {}

    /// The problems of the configuration itself. The files that it names are not read. Empty if there are
    /// none.
    package func problems() -> [String] {
        var problems: [String] = []
        if tokenFile?.isEmpty == true { problems.append("the path of the token file is empty") }
        if let jwt { problems += jwt.problems() }
        if certificates.count > Self.certificateRulesMax {
            problems.append("there are more than \(Self.certificateRulesMax) rules for certificates")
        }
        var seen: Set<SubjectAlternativeName.Pattern> = []
        for rule in certificates {
            if !seen.insert(rule.pattern).inserted {
                problems.append("two rules for certificates match '\(rule.pattern)'")
            }
            if let name = rule.name, !PrincipalName.isValid(name) {
                problems.append(
                    "the rule for '\(rule.pattern)' has an invalid name: it must be \(PrincipalName.rule)")
            }
            if case .only(let users) = rule.users {
                if users.count > UserGrant.usersMax {
                    problems.append(
                        "the rule for '\(rule.pattern)' has more than \(UserGrant.usersMax) users")
                }
                if !users.allSatisfy({ PrincipalName.isValid($0.text) }) {
                    problems.append(
                        "the rule for '\(rule.pattern)' has an invalid user: it must be \(PrincipalName.rule)"
                    )
                }
            }
        }
        return problems
    }
}

package struct JWTConfiguration: Sendable, Hashable {
    /// The location of the issuer's keys, a JSON Web Key Set.
    package enum KeyLocation: Sendable, Hashable, CustomStringConvertible {
        case file(String)
        case address(URL)

        /// A text that begins with `http://` or `https://` is an address; any other text is a path.
        package init?(_ text: String) {
            let lower = text.lowercased()
            guard lower.hasPrefix("http://") || lower.hasPrefix("https://") else {
                if text.isEmpty { return nil }
                self = .file(text)
                return
            }
            guard let url = URL(string: text) else { return nil }
            self = .address(url)
        }

        /// The location for logs. An address is shown without its query, which may contain a secret.
        package var description: String {
            switch self {
            case .file(let path): path
            case .address(let url):
                "\(url.scheme ?? "")://\(url.host() ?? "")\(url.port.map { ":\($0)" } ?? "")\(url.path())"
            }
        }
    }

    /// The required `typ` in the header of a token.
    package enum TokenType: String, Sendable, Hashable, CaseIterable {
        /// A token without `typ`, or with `JWT` or `at+jwt`.
        case any
        /// An access token of RFC 9068.
        case accessToken = "at+jwt"
    }

    package var keys: KeyLocation
    /// The required claim `iss`.
    package var issuer: String
    /// The required value of the claim `aud`, or of one of its members.
    package var audience: String
    /// The tolerated difference between the issuer's clock and ours.
    package var leeway = Duration.seconds(30)
    /// The claim with the users that a token may act for.
    package var usersClaim = "signalbox_users"
    package var tokenType = TokenType.any
    /// The interval between fetches of the keys from a URL.
    package var refreshInterval = Duration.seconds(300)

    package static let leewayRange = Duration.zero ... .seconds(60)
    package static let refreshIntervalRange = KeySource.fetchPauseMin...Duration.seconds(86_400)

    package init(keys: KeyLocation, issuer: String, audience: String) {
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
    }

    func problems() -> [String] {
        var problems: [String] = []
        // Without both checks, a token that the issuer made for another service would be accepted here.
        if issuer.isEmpty { problems.append("auth-jwt-issuer is empty: give the issuer of the JWTs") }
        if audience.isEmpty { problems.append("auth-jwt-audience is empty: give the audience of the JWTs") }
        if usersClaim.isEmpty { problems.append("auth-jwt-users-claim is empty: give the name of the claim") }
        if !Self.leewayRange.contains(leeway) { problems.append("the leeway must be from 0 s to 60 s") }
        if !Self.refreshIntervalRange.contains(refreshInterval) {
            problems.append("the interval between fetches of the keys must be from 10 s to 1 day")
        }
        switch keys {
        case .file(let path):
            if path.isEmpty { problems.append("the path of the file with the keys is empty") }
        case .address(let url):
            if !["http", "https"].contains(url.scheme?.lowercased()) || url.host()?.isEmpty != false {
                problems.append("the URL of the keys must begin with http:// or https://")
            }
            // The user and the password would appear in logs.
            if url.user() != nil || url.password() != nil {
                problems.append("the URL of the keys must not contain a user or a password")
            }
        }
        return problems
    }
}

/// The principal of client certificates whose name matches a pattern.
package struct CertificateRule: Sendable, Hashable {
    package var pattern: SubjectAlternativeName.Pattern
    /// The name of the principal; nil: the name in the certificate, without its kind.
    package var name: String?
    package var scopes: Set<Scope>
    package var users: UserGrant

    package init(
        pattern: SubjectAlternativeName.Pattern, name: String? = nil, scopes: Set<Scope>,
        users: UserGrant = .itself
    ) {
        self.pattern = pattern
        self.name = name
        self.scopes = scopes
        self.users = users
    }
}

/// A configuration, or a file that it names, with which the service cannot start. It lists every problem.
package struct AuthenticationConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    package let problems: [String]

    package var description: String { problems.joined(separator: "\n") }
}
