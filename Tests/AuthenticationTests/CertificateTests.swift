import Crypto
import Foundation
import JobModel
import Support
import SwiftASN1
import Testing
import X509

@testable import Authentication

private func rule(
    _ pattern: String, name: String? = nil, scopes: Set<Scope> = [.read], users: UserGrant = .itself
) throws
    -> CertificateRule
{
    CertificateRule(
        pattern: try #require(SubjectAlternativeName.Pattern(pattern), "\(pattern)"), name: name,
        scopes: scopes,
        users: users)
}

@Suite struct CertificateTests {
    let clock = TestClock()

    private func authenticator(_ rules: [CertificateRule], tokenFile: String? = nil) throws -> Authenticator {
        var configuration = AuthenticationConfiguration()
        configuration.certificates = rules
        configuration.tokenFile = tokenFile
        return try Authenticator(configuration, logger: quiet, fetch: noFetch) { [clock] in clock.now }
    }

    private func certificate(_ names: SubjectAlternativeName...) -> PeerCertificate {
        PeerCertificate(names: names, expiry: clock.now.advanced(by: .seconds(100)))
    }

    @Test func aNameIsItsPrincipal() throws {
        let authenticator = try authenticator([
            rule("dns:importer.example", name: "importer", scopes: [.enqueue, .read], users: .all),
            rule("email:ada@example.com", scopes: [.read]),
            rule("uri:spiffe://example.org/ns/prod/sa/*", scopes: [.admin], users: .only(["ada"])),
        ])
        #expect(authenticator.usesCertificates)
        let expiry = clock.now.advanced(by: .seconds(100))
        for (name, principal): (SubjectAlternativeName, Principal) in [
            (
                .dns("Importer.Example"),
                Principal(
                    name: "importer", scopes: [.enqueue, .read], users: .all, expiry: expiry,
                    source: .certificate(.dns("importer.example")))
            ),
            (
                .email("ada@EXAMPLE.com"),
                Principal(
                    name: "ada@example.com", scopes: [.read], users: .only(["ada@example.com"]),
                    expiry: expiry,
                    source: .certificate(.email("ada@example.com")))
            ),
            (
                .uri("spiffe://example.org/ns/prod/sa/worker"),
                Principal(
                    name: "spiffe://example.org/ns/prod/sa/worker", scopes: [.admin], users: .only(["ada"]),
                    expiry: expiry, source: .certificate(.uri("spiffe://example.org/ns/prod/sa/worker")))
            ),
        ] {
            #expect(
                authenticator.known(nil, certificate: certificate(.dns("other.example"), name))?.principal
                    == principal)
        }
    }

    @Test(
        arguments: [
            .dns("other.example"), .dns("importer.example.evil"), .dns("x.importer.example"),
            .dns("*.example"),
            .dns("importer.example."), .uri("importer.example"), .email("importer.example"),
            .dns("ada@example.com"),
            .email("Ada@example.com"), .email("ada@example.com.evil"),
            .uri("spiffe://example.org/ns/prod/sa/"), .uri("spiffe://example.org/ns/prod/sa/a/\u{301}b"),
            .uri("spiffe://example.org/ns/prod/sa"), .uri("spiffe://example.org/ns/prod/sa/a/b"),
            .uri("spiffe://example.org/ns/prod/sa/a?b"), .uri("spiffe://example.org/ns/prod/sa/a#b"),
            .uri("spiffe://example.org/ns/prod/sa/a%2Fb"), .uri("spiffe://example.org/ns/prod/sa/*"),
            .uri("spiffe://example.org/ns/prod/sa/.."), .uri("spiffe://example.org/ns/prod/sa/."),
            .uri("spiffe://example.org/ns/test/sa/a"), .uri("spiffe://Example.org/ns/prod/sa/a"),
            .uri("x:spiffe://example.org/ns/prod/sa/a"),
        ] as [SubjectAlternativeName])
    func otherNames(_ name: SubjectAlternativeName) async throws {
        let authenticator = try authenticator([
            rule("dns:importer.example"), rule("email:ada@example.com"),
            rule("uri:spiffe://example.org/ns/prod/sa/*"),
        ])
        #expect(await authenticator.refusal(nil, certificate: certificate(name)) == .unknownCertificate)
    }

    @Test func theFirstRuleCounts() throws {
        let exact = try rule("uri:spiffe://example.org/a/b", name: "exact")
        let open = try rule("uri:spiffe://example.org/a/*", name: "open")
        let dns = try rule("dns:b.example", name: "dns")
        let names: [SubjectAlternativeName] = [.dns("b.example"), .uri("spiffe://example.org/a/b")]
        for rules in [[exact, open, dns], [open, exact, dns], [dns, open, exact], [dns, exact, open]] {
            for names in [names, names.reversed()] {
                let certificate = PeerCertificate(names: names, expiry: clock.now.advanced(by: .seconds(1)))
                #expect(
                    try authenticator(rules).known(nil, certificate: certificate)?.principal.name
                        == rules[0].name)
            }
        }
    }

    @Test func missingUnknownAndExpired() async throws {
        let some = try authenticator([rule("dns:a.example")])
        #expect(await some.refusal(nil) == .missingCredentials)
        #expect(await some.refusal(nil, certificate: certificate()) == .unknownCertificate)
        // Nobody asked for it: TLS may want one for its own sake.
        let none = try authenticator([])
        #expect(!none.usesCertificates)
        #expect(await none.refusal(nil, certificate: certificate(.dns("a.example"))) == .missingCredentials)
        // A name that would spoil the audit.
        let open = try authenticator([rule("uri:spiffe://example.org/*")])
        #expect(
            await open.refusal(nil, certificate: certificate(.uri("spiffe://example.org/a\nb")))
                == .unknownCertificate)

        let credential = try #require(some.known(nil, certificate: certificate(.dns("a.example"))))
        let certificate = certificate(.dns("a.example"))
        clock.advance(by: .seconds(100) - .microseconds(1))
        #expect(credential.isValid(now: clock.now) && some.known(nil, certificate: certificate) != nil)
        clock.advance(by: .microseconds(1))
        #expect(credential.problem(now: clock.now)?.code == .expired)
        #expect(await some.refusal(nil, certificate: certificate) == .expired)
    }

    /// Good or bad: a caller never gets more than its token by way of its connection.
    @Test func theTokenWinsOverTheCertificate() async throws {
        let folder = try TestFolder()
        let tokens = try folder.write(
            "tokens:\n- {name: token, hash: \(SHA256Hash(of: "one")), scopes: [jobs.read]}\n",
            to: "tokens.yaml")
        let authenticator = try authenticator([rule("dns:a.example", name: "certificate")], tokenFile: tokens)
        let certificate = certificate(.dns("a.example"))
        #expect(authenticator.known(nil, certificate: certificate)?.principal.name == "certificate")
        #expect(authenticator.known("Bearer one", certificate: certificate)?.principal.name == "token")
        #expect(await authenticator.refusal("Bearer two", certificate: certificate) == .unknownToken)
        #expect(await authenticator.refusal("", certificate: certificate) == .malformedHeader)
    }

    @Test(
        arguments: [
            "", "a.example", "dns", "dns:", "DNS:a.example", "ip:127.0.0.1", "dns:*", "dns:*.example",
            "dns:a.*",
            "dns:a b", "dns:ä.example", "dns:a.example/*", "email:ada", "email:*@example.com", "email:@/*",
            "uri:",
            "uri:x", "uri::x", "uri:*", "uri:spiffe://*", "uri:spiffe:///*", "uri:spiffe://example.org*",
            "uri:urn:x/*",
            "uri:spiffe://example.org/a*", "uri:spiffe://example.org/*/a", "uri:spiffe://*/a",
            "uri:spiffe://a/**",
            "uri:spiffe://a/*/*", "uri:spiffe://a/?b/*", "uri:spiffe://a/#b/*", "uri:spiffe://a/\n",
            "uri:spiffe://a?/*",
        ])
    func noPattern(_ text: String) {
        #expect(SubjectAlternativeName.Pattern(text) == nil)
    }

    @Test func patternsShowThemselves() {
        for text in [
            "dns:a.example", "email:Ada@example.com", "uri:urn:x", "uri:spiffe://a/*", "uri:spiffe://a/b/*",
        ] {
            #expect(SubjectAlternativeName.Pattern(text)?.description == text)
        }
        #expect(SubjectAlternativeName.Pattern("dns:A.Example")?.description == "dns:a.example")
        #expect(SubjectAlternativeName.uri("spiffe://a").description == "uri:spiffe://a")
    }

    // MARK: from DER

    private func der(_ names: SubjectAlternativeNames?) throws -> [UInt8] {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        // As a client is that says whose it is in its subject only.
        let subject = try DistinguishedName { CommonName("a.example") }
        let certificate = try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: key.publicKey,
            notValidBefore: Date(timeIntervalSince1970: 1_000_000_000),
            notValidAfter: Date(timeIntervalSince1970: 2_000_000_000), issuer: subject, subject: subject,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try Certificate.Extensions { if let names { names } }, issuerPrivateKey: key)
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return serializer.serializedBytes
    }

    @Test func certificatesAreRead() throws {
        let names = SubjectAlternativeNames([
            .dnsName("A.example"), .uniformResourceIdentifier("spiffe://example.org/a"),
            .rfc822Name("ada@Example.com"),
            .ipAddress(ASN1OctetString(contentBytes: [127, 0, 0, 1])), .dnsName("*.example"),
        ])
        let certificate = try PeerCertificate(der: der(names))
        #expect(
            certificate.names == [
                .dns("a.example"), .uri("spiffe://example.org/a"), .email("ada@example.com"),
                .dns("*.example"),
            ])
        #expect(certificate.expiry == Timestamp(microseconds: 2_000_000_000_000_000))
        // The common name is nobody.
        #expect(try PeerCertificate(der: der(nil)).names.isEmpty)
    }

    @Test func whatIsNoCertificate() throws {
        let good = try der(SubjectAlternativeNames([.dnsName("a.example")]))
        let many = SubjectAlternativeNames((0...1000).map { .dnsName("\($0).example") })
        for bytes in [[], [0x30], Array(good.dropLast()), good + [0], try der(many)] {
            let error = #expect(throws: AuthenticationError.self) { try PeerCertificate(der: bytes) }
            #expect(error?.code == .malformedCertificate)
        }
        for index in good.indices {
            var bytes = good
            bytes[index] ^= 0x41
            _ = try? PeerCertificate(der: bytes)
        }
    }
}
