import Authentication
import Foundation
import JobModel
import Support
import Testing

/// What docs/authentication.md shows works.
@Suite struct DocumentTests {
    private func blocks(_ language: String) throws -> [String] {
        let repository = URL(filePath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(
            contentsOf: repository.appending(path: "docs/authentication.md"), encoding: .utf8)
        return text.split(separator: "```").compactMap { part in
            part.hasPrefix(language + "\n") ? String(part.dropFirst(language.count + 1)) : nil
        }
    }

    @Test func theTokenFile() throws {
        let text = try #require(blocks("yaml").first { $0.hasPrefix("tokens:") })
        let entries = try TokenFile.parse(Array(text.utf8), name: "docs")
        #expect(entries.map(\.name) == ["importer", "ada", "operations"])
        #expect(entries.map(\.users) == [.all, .itself, .only([])])
        #expect(entries.map { $0.expiry != nil } == [false, true, false])
    }

    @Test func theClaims() async throws {
        let text = try #require(blocks("json").first)
        let claims = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        let key = SigningKey.ed25519()
        let folder = try TestFolder()
        var configuration = AuthenticationConfiguration()
        configuration.jwt = JWTConfiguration(
            keys: .file(try folder.write(keySet([key]), to: "jwks.json")),
            issuer: "https://login.example.com/",
            audience: "signalbox")
        let authenticator = try Authenticator(configuration, logger: quiet, fetch: noFetch) {
            TestClock().now
        }
        let principal = try await authenticator.principal("Bearer \(key.token(claims))")
        #expect(principal.name == "importer" && principal.scopes == [.enqueue, .read])
        #expect(principal.users == .only(["ada", "bob"]))
    }

    @Test func theNamesOfCertificates() throws {
        let text = try #require(blocks("yaml").first { $0.contains("certificates:") })
        let names = text.matches(of: /san: (\S+)/).map { String($0.output.1) }
        #expect(names.count == 3)
        for name in names { #expect(SubjectAlternativeName.Pattern(name) != nil, "\(name)") }
    }
}
