import Authentication
import Foundation
import JobModel
import Support
import Testing

@Suite struct AuthenticationConfigurationTests {
    private func problems(_ adjust: (inout JWTConfiguration) -> Void) -> [String] {
        var jwt = JWTConfiguration(keys: .file("jwks.json"), issuer: "i", audience: "a")
        adjust(&jwt)
        var configuration = AuthenticationConfiguration()
        configuration.jwt = jwt
        return configuration.problems()
    }

    @Test func defaults() {
        let jwt = JWTConfiguration(keys: .file("jwks.json"), issuer: "i", audience: "a")
        #expect(jwt.leeway == .seconds(30) && jwt.refreshInterval == .seconds(300))
        #expect(jwt.usersClaim == "signalbox_users")
        #expect(problems { _ in } == [])
        #expect(AuthenticationConfiguration().problems() == [])
    }

    @Test func jwt() {
        #expect(problems { $0.issuer = "" } == ["auth-jwt-issuer is empty: give the issuer of the JWTs"])
        #expect(
            problems { $0.audience = "" } == ["auth-jwt-audience is empty: give the audience of the JWTs"])
        #expect(
            problems { $0.usersClaim = "" } == ["auth-jwt-users-claim is empty: give the name of the claim"])
        for leeway: Duration in [.seconds(-1), .seconds(61)] {
            #expect(problems { $0.leeway = leeway } == ["the leeway must be from 0 s to 60 s"])
        }
        for interval: Duration in [.seconds(9), .seconds(86_401)] {
            #expect(
                problems { $0.refreshInterval = interval }
                    == ["the interval between fetches of the keys must be from 10 s to 1 day"])
        }
        #expect(problems { $0.keys = .file("") } == ["the path of the file with the keys is empty"])
        #expect(
            problems {
                $0.issuer = ""; $0.audience = ""
            }.count == 2)
    }

    @Test(
        arguments: [
            ("https://issuer.example/jwks.json", []), ("http://127.0.0.1:8080/", []),
            ("HTTPS://issuer.example", []),
            ("https://[::1]:8080/k", []),
            ("https:///jwks", ["the URL of the keys must begin with http:// or https://"]),
            ("https://u@issuer.example/", ["the URL of the keys must not contain a user or a password"]),
            ("https://u:p@issuer.example/", ["the URL of the keys must not contain a user or a password"]),
        ])
    func addresses(_ text: String, _ expected: [String]) throws {
        let location = try #require(JWTConfiguration.KeyLocation(text))
        guard case .address = location else {
            Issue.record("not an address")
            return
        }
        #expect(problems { $0.keys = location } == expected)
    }

    @Test func locations() throws {
        #expect(JWTConfiguration.KeyLocation("") == nil)
        #expect(JWTConfiguration.KeyLocation("/etc/jwks.json") == .file("/etc/jwks.json"))
        #expect(JWTConfiguration.KeyLocation("http.json") == .file("http.json"))
        let url = try #require(URL(string: "ftp://issuer.example/"))
        #expect(
            problems { $0.keys = .address(url) } == [
                "the URL of the keys must begin with http:// or https://"
            ])
        // A query may have a secret.
        #expect(
            JWTConfiguration.KeyLocation("https://issuer.example:8443/a?key=secret")?.description
                == "https://issuer.example:8443/a")
    }

    @Test func certificates() throws {
        let pattern = try #require(SubjectAlternativeName.Pattern("dns:a.example"))
        var configuration = AuthenticationConfiguration()
        configuration.certificates = [CertificateRule(pattern: pattern, name: "a", scopes: [])]
        #expect(configuration.problems() == [])
        configuration.certificates.append(CertificateRule(pattern: pattern, name: "a\nb", scopes: []))
        #expect(
            configuration.problems() == [
                "two rules for certificates match 'dns:a.example'",
                "the rule for 'dns:a.example' has an invalid name: it must be \(PrincipalName.rule)",
            ])
        var unseen = AuthenticationConfiguration()
        unseen.certificates = [
            CertificateRule(
                pattern: pattern, name: "a\u{200D}", scopes: [], users: .only(["ada", "b\u{202E}"]))
        ]
        #expect(
            unseen.problems() == [
                "the rule for 'dns:a.example' has an invalid name: it must be \(PrincipalName.rule)",
                "the rule for 'dns:a.example' has an invalid user: it must be \(PrincipalName.rule)",
            ])
        configuration.certificates = (0...1000).map { index in
            var rule = configuration.certificates[0]
            rule.pattern = SubjectAlternativeName.Pattern("dns:\(index).example") ?? pattern
            return rule
        }
        #expect(configuration.problems() == ["there are more than 1000 rules for certificates"])
        configuration.tokenFile = ""
        #expect(configuration.problems().count == 2)
        let error = #expect(throws: AuthenticationConfigurationError.self) {
            try Authenticator(configuration, logger: quiet, fetch: noFetch)
        }
        #expect(error?.problems.count == 2)
    }
}
