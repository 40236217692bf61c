import Authentication
import Foundation
import JobModel
import Support
import Testing

private let hash = SHA256Hash(of: "sbx_secret")

private func problems(_ text: String) -> [String] {
    do {
        _ = try TokenFile.parse(Array(text.utf8), name: "t.yaml")
        return []
    } catch {
        return error.problems
    }
}

/// A file with one good token, of whose lines some are others.
private func file(
    name: String = "name: importer", hash: String = "hash: \(hash)", scopes: String = "scopes: [jobs.read]",
    more: String = ""
) -> String {
    "tokens:\n  - \(name)\n    \(hash)\n    \(scopes)\n" + (more.isEmpty ? "" : "    \(more)\n")
}

@Suite struct TokenFileTests {
    @Test func entries() throws {
        let text = """
            # Who may call.
            tokens:
              - name: importer
                hash: \(hash)
                scopes: [jobs.enqueue, jobs.read]
                users: all
                expires: 2030-06-01T12:00:00Z
              - {name: "ada's laptop", hash: "\(SHA256Hash(of: "b"))", scopes: [jobs.cancel], users: [ada, "7"]}
              - name: operations
                hash: \("\(SHA256Hash(of: "c"))".uppercased().replacing("SHA", with: "sha"))
                scopes:
                  - admin
                users: []
              - {name: bob, hash: "\(SHA256Hash(of: "d"))", scopes: [jobs.read], expires: 2030-06-01T12:00:00+02:00}

            """
        let noon = Timestamp(microseconds: 1_906_545_600_000_000)
        #expect(
            try TokenFile.parse(Array(text.utf8), name: "t.yaml") == [
                .init(name: "importer", hash: hash, scopes: [.enqueue, .read], users: .all, expiry: noon),
                .init(
                    name: "ada's laptop", hash: SHA256Hash(of: "b"), scopes: [.cancel],
                    users: .only(["ada", "7"])),
                .init(name: "operations", hash: SHA256Hash(of: "c"), scopes: [.admin], users: .only([])),
                .init(
                    name: "bob", hash: SHA256Hash(of: "d"), scopes: [.read], users: .itself,
                    expiry: noon.advanced(by: .seconds(-7200))),
            ])
        #expect(try TokenFile.parse(Array("tokens: []\n".utf8), name: "t.yaml").isEmpty)
    }

    @Test(
        arguments: [
            ("", "t.yaml: must contain a list named tokens"),
            ("# only a comment\n", "t.yaml: must contain a list named tokens"),
            ("- a\n", "t.yaml:1: must contain a list named tokens"),
            ("{}\n", "t.yaml:1: must contain a list named tokens"),
            ("tokens:\n", "t.yaml:1: tokens must be a list"),
            ("tokens: []\nother: 1\n", "t.yaml:2: unknown key: known keys are tokens"),
            ("tokens:\n  - sbx_secret\n", "t.yaml:2: a token must have name, hash and scopes"),
            ("tokens: [\n", "t.yaml:2: is not YAML: did not find expected node content"),
            ("tokens: []\ntokens: []\n", "t.yaml:1: has a key twice"),
            (file(more: "name: other"), "t.yaml:2: has a key twice"),
            (
                file(more: "sbx_secret: 1"),
                "t.yaml:5: unknown key: known keys are expires, hash, name, scopes, users"
            ),
            (
                file(name: "name: ''"),
                "t.yaml:2: name must be \(PrincipalName.rule)"
            ),
            (
                file(name: "name: \"a\\nb\""),
                "t.yaml:2: name must be \(PrincipalName.rule)"
            ),
            (
                file(name: "name: \"ada\\u200B\""),
                "t.yaml:2: name must be \(PrincipalName.rule)"
            ),
            (
                file(name: "name: ada\u{202E}"),
                "t.yaml:2: name must be \(PrincipalName.rule)"
            ),
            (
                file(more: "users: [\"ada\\u2066\"]"),
                "t.yaml:5: users must be all, or a list of at most 10000 users, each \(PrincipalName.rule)"
            ),
            (
                file(name: "name: \(String(repeating: "é", count: 129))"),
                "t.yaml:2: name must be \(PrincipalName.rule)"
            ),
            (
                file(hash: "hash: sbx_secret"),
                "t.yaml:3: hash must be sha256: and 64 hexadecimal digits, not the token itself"
            ),
            (
                file(hash: "hash: \(hash)0"),
                "t.yaml:3: hash must be sha256: and 64 hexadecimal digits, not the token itself"
            ),
            (
                file(hash: "hash: [\(hash)]"),
                "t.yaml:3: hash must be sha256: and 64 hexadecimal digits, not the token itself"
            ),
            (
                file(hash: "hash: sha256:\(String(repeating: "g", count: 64))"),
                "t.yaml:3: hash must be sha256: and 64 hexadecimal digits, not the token itself"
            ),
            (
                file(scopes: "scopes: []"),
                "t.yaml:4: scopes must be a list of at least one of jobs.enqueue, jobs.read, jobs.cancel, admin"
            ),
            (
                file(scopes: "scopes: [jobs.read, jobs.write]"),
                "t.yaml:4: scopes must be a list of at least one of jobs.enqueue, jobs.read, jobs.cancel, admin"
            ),
            (
                file(scopes: "scopes: admin"),
                "t.yaml:4: scopes must be a list of at least one of jobs.enqueue, jobs.read, jobs.cancel, admin"
            ),
            (
                file(more: "users: everybody"),
                "t.yaml:5: users must be all, or a list of at most 10000 users, each \(PrincipalName.rule)"
            ),
            (
                file(more: "users: [ada, '']"),
                "t.yaml:5: users must be all, or a list of at most 10000 users, each \(PrincipalName.rule)"
            ),
            (
                file(more: "users: [ada, [bob]]"),
                "t.yaml:5: users must be all, or a list of at most 10000 users, each \(PrincipalName.rule)"
            ),
            (
                file(more: "users:"),
                "t.yaml:5: users must be all, or a list of at most 10000 users, each \(PrincipalName.rule)"
            ),
            (
                file(scopes: "users: all"),
                "t.yaml:2: a token has no scopes"
            ),
            (file() + file().dropFirst("tokens:\n".count), "t.yaml:5: has the same hash as line 2"),
        ])
    func problem(_ text: String, _ expected: String) {
        #expect(problems(text) == [expected])
    }

    @Test(
        arguments: [
            "tomorrow", "2030-06-01", "2030-06-01T12:00:00", "2030-06-01 12:00:00Z", "2030-13-01T12:00:00Z",
            "2030-06-01T12:00:00Zulu", "2030-06-01T12:00:00ZZZZZZ", "1930-06-01T12:00:00Z", "1906545600", "",
            "2030-06-01T12:00:00+2:000",
        ])
    func wrongTimes(_ text: String) {
        #expect(
            problems(file(more: "expires: '\(text)'"))
                == ["t.yaml:5: expires must be a time with its zone, as in 2030-01-31T12:00:00Z"])
    }

    @Test func everyProblemIsNamedButNotTooMany() {
        #expect(problems("tokens:\n  - name: a\n  - hash: b\n").count == 5)
        let many = "tokens:\n" + String(repeating: "  - {}\n", count: 1000)
        #expect((20...22).contains(problems(many).count))
    }

    /// However short it is cut, a file is as it was meant, or wrong, unless a whole line or more is missing.
    @Test func cutWithinALine() {
        let whole = file(name: "name: ada", more: "users:\n      - bob\n      - bobby")
        #expect(problems(whole).isEmpty)
        #expect(problems(whole + "\r\n").isEmpty)
        for count in 1..<whole.utf8.count where Array(whole.utf8)[count - 1] != UInt8(ascii: "\n") {
            let found = problems(String(decoding: whole.utf8.prefix(count), as: UTF8.self))
            #expect(
                found.count == 1 && found[0].contains("the last line does not end with a newline"), "\(count)"
            )
        }
        #expect(
            problems(String(whole.dropLast(3))) == [
                "t.yaml:7: the last line does not end with a newline, so the file may be incomplete: end it with a newline"
            ])
    }

    @Test func notUTF8() {
        let error = #expect(throws: AuthenticationConfigurationError.self) {
            try TokenFile.parse([0x74, 0xff], name: "t.yaml")
        }
        #expect(error?.problems == ["t.yaml: is not UTF-8"])
    }

    /// Wherever a token is put by mistake, and however broken the file is.
    @Test func noProblemShowsWhatIsWritten() {
        let canary = "sbx_canary"
        let texts = [
            canary, "\(canary):", "tokens: \(canary)", "tokens: [\(canary)",
            "tokens:\n - \(canary): \(canary)\n",
            "tokens: \"\(canary)", "tokens: &\(canary) *\(canary)2", "tokens: !\(canary) []\nx: !<\(canary)",
            "\(canary): 1\n\(canary): 2", "tokens:\n\t- \(canary)", "%\(canary)\n---\ntokens: []",
            "tokens: '\(canary)\u{1}'",
            file(name: "name: \"\(canary)\\u0001\""), file(hash: "hash: \(canary)"),
            file(scopes: "scopes: [\(canary)]"),
            file(more: "users: \(canary)"), file(more: "expires: \(canary)"), file(more: "\(canary): 1"),
        ]
        for text in texts {
            let found = problems(text + "\n")
            #expect(!found.isEmpty, "\(text)")
            #expect(!found.joined().contains(canary), "\(found)")
        }
    }

    @Test func tooManyTokens() {
        func text(_ count: Int) -> String {
            "tokens:\n"
                + (0..<count).map { "- {name: a, hash: \(SHA256Hash(of: "\($0)")), scopes: [admin]}\n" }
                .joined()
        }
        #expect(problems(text(10_000)).isEmpty)
        #expect(problems(text(10_001)) == ["t.yaml:2: there are more than 10000 tokens"])
    }

    @Test func newTokens() throws {
        let token = TokenFile.newToken()
        #expect(token.wholeMatch(of: /sbx_[A-Za-z0-9_-]{43}/) != nil)
        #expect(token != TokenFile.newToken())
        let entry = TokenFile.Entry(
            name: "ada's \"big\" \\ laptop: #1", hash: SHA256Hash(of: token), scopes: Set(Scope.allCases),
            users: .only(["ada", "- \"b\""]), expiry: Timestamp(microseconds: 1_906_545_600_000_000))
        #expect(!entry.yaml.contains(token))
        for users in [UserGrant.itself, .all, .only(["ada", "- \"b\""]), .only([])] {
            var entry = entry
            entry.users = users
            #expect(try TokenFile.parse(Array("tokens:\n\(entry.yaml)".utf8), name: "t.yaml") == [entry])
        }
        #expect(entry.yaml.contains("    expires: 2030-06-01T12:00:00Z\n"))
    }

    @Test func hashes() {
        // The example of FIPS 180-2.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        #expect(SHA256Hash(of: "abc").description == text)
        #expect(SHA256Hash(text) == SHA256Hash(of: "abc"))
        #expect(SHA256Hash(of: "abc") != SHA256Hash(of: "abd"))
    }
}
