import Authentication
import Foundation
import JobModel
import Support
import Testing

private func entry(_ token: String, _ more: String = "scopes: [jobs.read]") -> String {
    "  - {name: of-\(token), hash: \(SHA256Hash(of: token)), \(more)}\n"
}

private func file(_ entries: String...) -> String { "tokens:\n" + entries.joined() }

@Suite struct TokenAuthenticationTests {
    let clock = TestClock()
    let folder: TestFolder

    init() throws { folder = try TestFolder() }

    private func authenticator(_ text: String, log: TestLog = TestLog()) throws -> Authenticator {
        var configuration = AuthenticationConfiguration()
        configuration.tokenFile = try folder.write(text, to: "tokens.yaml")
        return try Authenticator(configuration, logger: log.logger, fetch: noFetch) { [clock] in clock.now }
    }

    @Test func aTokenIsItsPrincipal() async throws {
        let authenticator = try authenticator(
            file(
                entry("one", "scopes: [jobs.read, admin], users: all"),
                entry("two", "scopes: [jobs.cancel], users: [ada], expires: 2030-01-01T01:00:00Z"),
                entry("three")))
        // At once, without a task.
        let one = try #require(authenticator.known("Bearer one"))
        #expect(
            one.principal
                == Principal(name: "of-one", scopes: [.read, .admin], users: .all, source: .tokenFile))
        let hour = clock.now.advanced(by: .seconds(3600))
        #expect(
            try await authenticator.principal("Bearer two")
                == Principal(
                    name: "of-two", scopes: [.cancel], users: .only(["ada"]), expiry: hour, source: .tokenFile
                ))
        // Without users: itself.
        #expect(authenticator.known("Bearer three")?.principal.users == .only(["of-three"]))
        #expect(authenticator.known("Bearer one") === one)
    }

    @Test(
        arguments: [
            (nil, .missingCredentials), ("", .malformedHeader), ("Bearer", .malformedHeader),
            ("Bearer ", .malformedHeader), ("Bearer  ", .malformedHeader), ("one", .malformedHeader),
            ("Basic one", .malformedHeader), ("Bearers one", .malformedHeader),
            ("Bearer\tone", .malformedHeader),
            (" Bearer one", .malformedHeader), ("Bearer one ", .malformedHeader),
            ("Bearer o ne", .malformedHeader),
            ("Bearer one,Bearer one", .malformedHeader), ("Bearer one, Bearer one", .malformedHeader),
            ("Bearer öne", .malformedHeader), ("Bearer o\u{0}ne", .malformedHeader),
            ("Bearer two", .unknownToken),
            ("Bearer One", .unknownToken), ("Bearer one=", .unknownToken), ("Bearer on", .unknownToken),
            ("Bearer a.b.c", .unknownToken), ("Bearer \(String(repeating: "a", count: 8192))", .unknownToken),
            ("Bearer \(String(repeating: "a", count: 8193))", .malformedToken),
            ("Bearer \(SHA256Hash(of: "one"))", .malformedHeader),
        ] as [(String?, AuthenticationError.Code)])
    func refused(_ authorization: String?, _ code: AuthenticationError.Code) async throws {
        let authenticator = try authenticator(file(entry("one")))
        guard case .refused(let error) = authenticator.attempt(authorization: authorization, certificate: nil)
        else {
            Issue.record("not refused")
            return
        }
        #expect(error.code == code && !error.isTemporary)
        #expect(await authenticator.refusal(authorization) == code)
    }

    @Test(arguments: ["Bearer one", "bearer one", "BEARER one", "Bearer   one"])
    func forms(_ authorization: String) throws {
        #expect(try authenticator(file(entry("one"))).known(authorization) != nil)
    }

    /// RFC 6750's alphabet.
    @Test func everyCharacterOfATokenCounts() throws {
        let token = "azAZ09-._~+/=="
        #expect(try authenticator(file(entry(token))).known("Bearer \(token)") != nil)
    }

    @Test func noMessageShowsTheCredential() async throws {
        let authenticator = try authenticator(file(entry("one")))
        for header in [
            "canary", "canary one", "Bearer canary", "Bearer canary!", "Bearer canary.canary.canary",
        ] {
            do {
                _ = try await authenticator.authenticate(authorization: header, certificate: nil, source: "")
                Issue.record("not refused")
            } catch {
                #expect(!"\(error)".contains("canary") && !error.message.contains("canary"))
            }
        }
    }

    @Test func expiry() throws {
        let authenticator = try authenticator(
            file(entry("one", "scopes: [jobs.read], expires: 2030-01-01T00:00:10Z"), entry("two")))
        let credential = try #require(authenticator.known("Bearer one"))
        clock.advance(by: .milliseconds(9_999))
        #expect(credential.isValid(now: clock.now) && credential.problem(now: clock.now) == nil)
        #expect(authenticator.known("Bearer one") === credential)
        clock.advance(by: .milliseconds(1))
        #expect(!credential.isValid(now: clock.now))
        #expect(credential.problem(now: clock.now)?.code == .expired)
        guard case .refused(let error) = authenticator.attempt(authorization: "Bearer one", certificate: nil)
        else {
            Issue.record("not refused")
            return
        }
        #expect(error.code == .expired)
        #expect(authenticator.known("Bearer two") != nil)
    }

    @Test func whatIsRemovedOrChangedIsRevoked() async throws {
        let authenticator = try authenticator(file(entry("stays"), entry("goes"), entry("changes")))
        let stays = try #require(authenticator.known("Bearer stays"))
        let goes = try #require(authenticator.known("Bearer goes"))
        let changes = try #require(authenticator.known("Bearer changes"))

        try folder.write(
            file(entry("comes"), entry("changes", "scopes: [jobs.read, admin]"), entry("stays")),
            to: "tokens.yaml")
        #expect(goes.isValid(now: clock.now))
        for _ in 0..<2 { authenticator.reload() }
        #expect(stays.isValid(now: clock.now))
        #expect(authenticator.known("Bearer stays") === stays)
        #expect(goes.problem(now: clock.now)?.code == .revoked)
        #expect(await authenticator.refusal("Bearer goes") == .unknownToken)
        #expect(changes.problem(now: clock.now)?.code == .revoked)
        #expect(authenticator.known("Bearer changes")?.principal.scopes == [.read, .admin])
        #expect(authenticator.known("Bearer comes") != nil)

        // Coming back is no pardon for what was opened before.
        try folder.write(file(entry("goes")), to: "tokens.yaml")
        for _ in 0..<2 { authenticator.reload() }
        #expect(!goes.isValid(now: clock.now) && !stays.isValid(now: clock.now))
        #expect(authenticator.known("Bearer goes")?.isValid(now: clock.now) == true)

        try folder.write("tokens: []\n", to: "tokens.yaml")
        for _ in 0..<2 { authenticator.reload() }
        #expect(authenticator.known("Bearer goes") == nil)
    }

    @Test func aBadFileChangesNothingAndIsLoggedOnce() throws {
        let log = TestLog()
        let authenticator = try authenticator(file(entry("one")), log: log)
        let one = try #require(authenticator.known("Bearer one"))

        for text in [
            "", "tokens: [sbx_canary", "tokens: [sbx_canary\n",
            file(entry("one"), "  - {hash: sbx_canary}\n"),
        ] {
            let before = log.all.count
            try folder.write(text, to: "tokens.yaml")
            for _ in 0..<3 { authenticator.reload() }
            #expect(log.all.count == before + 1)
        }
        try FileManager.default.removeItem(atPath: folder.path("tokens.yaml"))
        for _ in 0..<3 { authenticator.reload() }
        #expect(log.all.count == 5)
        #expect(log.all.last?.contains("No such file") == true)
        #expect(!log.all.joined().contains("canary"))
        #expect(log.all.allSatisfy { $0.hasPrefix("warning the token file is invalid") })
        #expect(one.isValid(now: clock.now) && authenticator.known("Bearer one") === one)

        try folder.write(file(entry("one"), entry("two")), to: "tokens.yaml")
        for _ in 0..<3 { authenticator.reload() }
        #expect(log.all.count == 6)
        #expect(log.all.last?.hasPrefix("info the token file was reloaded") == true)
        #expect(one.isValid(now: clock.now) && authenticator.known("Bearer two") != nil)
    }

    /// A writer that truncates the file and writes it piece by piece: nothing counts that is there at one look only.
    @Test func whatIsStillBeingWrittenDoesNotCount() throws {
        let log = TestLog()
        let whole = file(entry("one", "scopes: [jobs.read], users: [ada]"), entry("two"))
        let authenticator = try authenticator(whole, log: log)
        let one = try #require(authenticator.known("Bearer one"))
        // Each of these is a good file, and the first one lets another in.
        for part in [file(entry("one"), entry("new")), file(entry("new")), "tokens: []\n", "", whole] {
            try folder.write(part, to: "tokens.yaml")
            authenticator.reload()
            #expect(authenticator.known("Bearer one") === one && one.isValid(now: clock.now))
            #expect(authenticator.known("Bearer two") != nil && authenticator.known("Bearer new") == nil)
        }
        authenticator.reload()
        #expect(log.all.isEmpty)
        // What was seen once, long ago, is seen for the first time again.
        try folder.write(file(entry("new")), to: "tokens.yaml")
        authenticator.reload()
        #expect(authenticator.known("Bearer new") == nil)
        authenticator.reload()
        #expect(authenticator.known("Bearer new") != nil && !one.isValid(now: clock.now))
    }

    /// For Swift they are equal: the same name, in another spelling.
    @Test func anotherSpellingOfAUserIsAnother() throws {
        let (composed, decomposed) = ("\u{E9}ve", "e\u{301}ve")
        func named(_ name: String, _ more: String = "") -> String {
            file("  - {name: \(name), hash: \(SHA256Hash(of: "one")), scopes: [jobs.read]\(more)}\n")
        }
        let authenticator = try authenticator(named(composed))
        let users = try #require(authenticator.known("Bearer one")).principal.users
        #expect(users.contains(ExactText(composed)) && !users.contains(ExactText(decomposed)))
        // Of an entry that is changed to the other one.
        try folder.write(named(decomposed), to: "tokens.yaml")
        for _ in 0..<2 { authenticator.reload() }
        let principal = try #require(authenticator.known("Bearer one")).principal
        #expect(principal.name.hasSameBytes(as: decomposed))
        #expect(
            principal.users.contains(ExactText(decomposed)) && !principal.users.contains(ExactText(composed)))
        // And both are two.
        try folder.write(named("x", ", users: [\(composed), \(decomposed)]"), to: "tokens.yaml")
        for _ in 0..<2 { authenticator.reload() }
        let both = try #require(authenticator.known("Bearer one")).principal.users
        #expect(both.contains(ExactText(composed)) && both.contains(ExactText(decomposed)))
    }

    /// Same size, same inode, and the times that it had: what is written twice through a mapping leaves them alone the
    /// second time, as what is written twice within a tick of the file system's clock does.
    @Test func aChangeInPlaceIsSeen() throws {
        let first = file(entry("one"))
        let second = file(entry("two"))
        let path = try folder.write(first, to: "tokens.yaml")
        let descriptor = open(path, O_RDWR)
        let size = first.utf8.count
        let mapping = try #require(mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0))
        try #require(mapping != MAP_FAILED)
        defer {
            munmap(mapping, size)
            close(descriptor)
        }
        mapping.copyMemory(from: Array(first.utf8), byteCount: size)
        var configuration = AuthenticationConfiguration()
        configuration.tokenFile = path
        // By the clock that the file's times are from.
        let authenticator = try Authenticator(configuration, logger: quiet, fetch: noFetch)
        for (text, known, unknown) in [(second, "two", "one"), (first, "one", "two")] {
            mapping.copyMemory(from: Array(text.utf8), byteCount: size)
            for _ in 0..<2 { authenticator.reload() }
            #expect(authenticator.known("Bearer \(known)") != nil)
            #expect(authenticator.known("Bearer \(unknown)") == nil)
        }
    }

    @Test func aLinkThatPointsElsewhereIsSeen() throws {
        try folder.write(file(entry("one")), to: "a.yaml")
        try folder.write(file(entry("two")), to: "b.yaml")
        let link = folder.path("tokens.yaml")
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: folder.path("a.yaml"))
        var configuration = AuthenticationConfiguration()
        configuration.tokenFile = link
        let authenticator = try Authenticator(configuration, logger: quiet, fetch: noFetch) { [clock] in
            clock.now
        }
        #expect(authenticator.known("Bearer one") != nil)
        try FileManager.default.removeItem(atPath: link)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: folder.path("b.yaml"))
        for _ in 0..<2 { authenticator.reload() }
        #expect(authenticator.known("Bearer one") == nil && authenticator.known("Bearer two") != nil)
    }

    @Test func aBadFileKeepsTheServerFromStarting() throws {
        func problems(_ path: String) -> [String] {
            var configuration = AuthenticationConfiguration()
            configuration.tokenFile = path
            do {
                _ = try Authenticator(configuration, logger: quiet, fetch: noFetch)
                return []
            } catch {
                return error.problems
            }
        }
        let path = folder.path("tokens.yaml")
        #expect(problems(path) == ["\(path): cannot be read: No such file or directory"])
        #expect(problems(folder.path("")) == ["\(folder.path("")): is not a file"])
        try folder.write("tokens: 1\n", to: "tokens.yaml")
        #expect(problems(path) == ["\(path):1: tokens must be a list"])
        try folder.write(
            "tokens: []\n" + String(repeating: "#", count: (1 << 20) - 12) + "\n", to: "tokens.yaml")
        #expect(problems(path) == [])
        try folder.write(
            "tokens: []\n" + String(repeating: "#", count: (1 << 20) - 11) + "\n", to: "tokens.yaml")
        #expect(problems(path) == ["\(path): is larger than 1048576 bytes"])
        // Nobody writes into it, and nobody waits for that.
        #expect(mkfifo(folder.path("pipe"), 0o600) == 0)
        #expect(problems(folder.path("pipe")) == ["\(folder.path("pipe")): is not a file"])
    }

    @Test func nothingConfiguredAdmitsNoCaller() async throws {
        let authenticator = try Authenticator(AuthenticationConfiguration(), logger: quiet, fetch: noFetch)
        #expect(await authenticator.refusal(nil) == .missingCredentials)
        #expect(await authenticator.refusal("Bearer one") == .unknownToken)
        #expect(await authenticator.refusal("Bearer a.b.c") == .unknownToken)
    }
}
