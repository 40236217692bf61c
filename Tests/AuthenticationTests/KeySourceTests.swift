import Foundation
import JobModel
import Support
import Testing

@testable import Authentication

@Suite struct KeySourceStateMachineTests {
    private func time(_ seconds: Int) -> Timestamp { Timestamp(microseconds: Int64(seconds) * 1_000_000) }
    private var machine = KeySource.StateMachine(interval: .seconds(300), pauseMin: .seconds(10))

    @Test mutating func fetchesAtFirstAndThenRegularly() {
        #expect(machine.tick(now: time(0)) == .fetch)
        #expect(machine.tick(now: time(1)) == .nothing)
        machine.fetched(withdrawn: [])
        #expect(machine.tick(now: time(299)) == .nothing)
        #expect(machine.tick(now: time(300)) == .fetch)
    }

    @Test mutating func triesAgainSoonAfterAFailure() {
        #expect(machine.tick(now: time(0)) == .fetch)
        machine.failed()
        #expect(machine.tick(now: time(9)) == .nothing)
        #expect(machine.tick(now: time(10)) == .fetch)
    }

    @Test mutating func missesShareAFetch() {
        #expect(machine.miss("a", now: time(0)) == .fetch)
        #expect(machine.miss("b", now: time(0)) == .wait)
        #expect(machine.miss(nil, now: time(60)) == .wait)
        #expect(machine.tick(now: time(600)) == .nothing)
    }

    @Test mutating func missesAreLimited() {
        #expect(machine.tick(now: time(0)) == .fetch)
        machine.fetched(withdrawn: [])
        #expect(machine.miss("a", now: time(9)) == .refuse(.keySourceUnavailable))
        #expect(machine.miss("a", now: time(10)) == .fetch)
        machine.failed()
        // Nobody knows whether that key exists.
        #expect(machine.miss("a", now: time(19)) == .refuse(.keySourceUnavailable))
        #expect(machine.tick(now: time(19)) == .nothing)
        #expect(machine.miss("a", now: time(20)) == .fetch)
    }

    /// A key may have been published since the last fetch, until one that began later has not brought it.
    @Test mutating func onlyAnIDThatWasLookedUpIsUnknown() {
        #expect(machine.miss("first", now: time(0)) == .fetch)
        // The answer may have been on its way by then.
        #expect(machine.miss("during", now: time(1)) == .wait)
        machine.fetched(withdrawn: [])
        #expect(machine.refusal(of: "first") == .unknownKey)
        #expect(machine.miss("first", now: time(2)) == .refuse(.unknownKey))
        for id: ExactText in ["during", "after", "f\u{131}rst"] {
            #expect(machine.refusal(of: id) == .keySourceUnavailable)
            #expect(machine.miss(id, now: time(2)) == .refuse(.keySourceUnavailable))
        }
        // The regular fetch counts for all that were named before, and nobody has to ask again.
        #expect(machine.tick(now: time(300)) == .fetch)
        machine.fetched(withdrawn: [])
        for id: ExactText in ["first", "during", "after"] {
            #expect(machine.miss(id, now: time(301)) == .refuse(.unknownKey))
        }
        // A token that names no key means the one that there is.
        #expect(machine.miss(nil, now: time(301)) == .refuse(.unknownKey))
    }

    @Test mutating func aWithdrawnKeyIsUnknown() {
        #expect(machine.tick(now: time(0)) == .fetch)
        machine.fetched(withdrawn: [])
        #expect(machine.tick(now: time(300)) == .fetch)
        machine.fetched(withdrawn: ["old"])
        #expect(machine.miss("old", now: time(301)) == .refuse(.unknownKey))
        #expect(machine.miss("new", now: time(301)) == .refuse(.keySourceUnavailable))
    }

    /// What is forgotten is as if it had never been named.
    @Test mutating func inventedIDsAreForgotten() {
        #expect(machine.miss("a", now: time(0)) == .fetch)
        machine.fetched(withdrawn: [])
        for number in 1..<KeySource.StateMachine.idsMax {
            _ = machine.miss(ExactText("\(number)"), now: time(1))
        }
        #expect(machine.miss("a", now: time(1)) == .refuse(.unknownKey))
        #expect(machine.miss("one more", now: time(1)) == .refuse(.keySourceUnavailable))
        #expect(machine.refusal(of: "a") == .keySourceUnavailable)
    }

    @Test mutating func aClockThatIsSetBackStopsNothing() {
        #expect(machine.tick(now: time(1_000_000)) == .fetch)
        machine.fetched(withdrawn: [])
        #expect(machine.tick(now: time(500)) == .fetch)
    }

    @Test mutating func theEndOfNoFetchMeansNothing() {
        machine.fetched(withdrawn: [])
        #expect(machine.refusal(of: "a") == .keySourceUnavailable)
        #expect(machine.tick(now: time(0)) == .fetch)
    }
}

/// Keys at an address.
@Suite struct KeyRotationTests {
    let clock = TestClock()
    let log = TestLog()
    let old = SigningKey.p256("old")
    let new = SigningKey.ed25519("new")

    private func authenticator(_ fetch: @escaping KeySetFetch) throws -> Authenticator {
        var configuration = AuthenticationConfiguration()
        let location = try #require(
            JWTConfiguration.KeyLocation("https://issuer.example/jwks.json?key=canary"))
        configuration.jwt = JWTConfiguration(keys: location, issuer: JWT.issuer, audience: JWT.audience)
        return try Authenticator(configuration, logger: log.logger, fetch: fetch) { [clock] in clock.now }
    }

    private func header(_ key: SigningKey, _ claims: [String: Any?] = [:]) throws -> String {
        "Bearer \(try key.token(JWT.claims(claims)))"
    }

    @Test func keysAreFetchedWhenTheyAreNeededFirst() async throws {
        let script = ScriptedFetch(.success(try keySet([old])))
        let authenticator = try authenticator(script.fetch)
        #expect(script.count == 0)
        #expect(await authenticator.refusal(try header(old)) == nil)
        #expect(await authenticator.refusal(try header(old, ["sub": "bob"])) == nil)
        #expect(script.count == 1)
        // What is refused anyway needs no keys.
        let fresh = try self.authenticator(script.fetch)
        for (header, code): ([String: Any?], AuthenticationError.Code) in [
            (["alg": "none"], .unsupportedAlgorithm), (["alg": "HS256"], .unsupportedAlgorithm),
            (["crit": ["x"]], .malformedToken),
        ] {
            #expect(await fresh.refusal("Bearer \(try old.token(JWT.claims(), header: header))") == code)
        }
        #expect(script.count == 1)
    }

    @Test func aNewKeyIsFetchedForItsFirstToken() async throws {
        let script = ScriptedFetch(.success(try keySet([old])))
        let authenticator = try authenticator(script.fetch)
        await authenticator.refreshKeys()
        #expect(script.count == 1)
        script.answer(.success(try keySet([old, new])))

        clock.advance(by: .seconds(10) - .microseconds(1))
        // It could not be looked up: its caller comes again.
        #expect(await authenticator.refusal(try header(new)) == .keySourceUnavailable)
        #expect(script.count == 1)
        clock.advance(by: .microseconds(1))
        #expect(await authenticator.refusal(try header(new)) == nil)
        #expect(await authenticator.refusal(try header(old)) == nil)
        #expect(script.count == 2)
    }

    @Test func inventedKeyIDsAskAtMostEachTenSeconds() async throws {
        let script = ScriptedFetch(.success(try keySet([old])))
        let authenticator = try authenticator(script.fetch)
        for second in 0..<60 {
            for number in 0..<3 {
                let token = try new.token(JWT.claims(), header: ["kid": "\(second) \(number)"])
                let wasLookedUp = second % 10 == 0 && number == 0
                #expect(
                    await authenticator.refusal("Bearer \(token)")
                        == (wasLookedUp ? .unknownKey : .keySourceUnavailable))
            }
            clock.advance(by: .seconds(1))
        }
        #expect(script.count == 6)
        #expect(await authenticator.refusal(try header(old)) == nil)
    }

    /// No key has an id of more than 1,024 bytes, so nobody is asked, and nothing of it is kept.
    @Test func anIDThatIsTooLongIsUnknown() async throws {
        let script = ScriptedFetch(.success(try keySet([old])))
        let authenticator = try authenticator(script.fetch)
        for (bytes, count) in [(1025, 0), (1024, 1)] {
            let token = try new.token(JWT.claims(), header: ["kid": String(repeating: "k", count: bytes)])
            #expect(await authenticator.refusal("Bearer \(token)") == .unknownKey)
            #expect(script.count == count)
        }
    }

    /// While a fetch hangs, those who wait for it are bounded, and whose key is there waits for nobody.
    @Test func callsThatWaitForKeysAreBounded() async throws {
        let (gate, opener) = AsyncStream.makeStream(of: Void.self)
        let script = ScriptedFetch(.success(try keySet([old])))
        let location = try #require(JWTConfiguration.KeyLocation("https://issuer.example/jwks.json"))
        let jwt = JWTConfiguration(keys: location, issuer: JWT.issuer, audience: JWT.audience)
        let fetch: KeySetFetch = { url in
            if script.count > 0 { for await _ in gate { break } }
            return try await script.fetch(url)
        }
        let keys = try KeySource(jwt, fetch: fetch, logger: log.logger) { [clock] in clock.now }
        @Sendable func refusal(_ id: String, from source: String) async -> AuthenticationError? {
            do throws(AuthenticationError) {
                _ = try await keys.key(for: id, source: source)
                return nil
            } catch { return error }
        }
        await keys.refreshIfDue()
        for _ in 0..<2 {
            clock.advance(by: .seconds(10))
            await withTaskGroup(of: AuthenticationError?.self) { group in
                // Of one source an eighth of them wait; the ninth source finds no place.
                for _ in 0..<KeySource.waitersMax { group.addTask { await refusal("new", from: "0") } }
                for _ in 0..<KeySource.waitersMax / 8 * 7 {
                    #expect(await group.next() == .keySourceUnavailable)
                }
                for number in KeySource.waitersMax / 8...KeySource.waitersMax {
                    group.addTask { await refusal("new", from: "\(1 + number % 8)") }
                }
                #expect(await group.next() == .keySourceUnavailable)
                #expect(await refusal("old", from: "0") == nil)
                opener.yield()
                #expect(await group.allSatisfy { $0 == .unknownKey })
            }
        }
    }

    @Test func callsAtOnceShareAFetch() async throws {
        let (gate, opener) = AsyncStream.makeStream(of: Void.self)
        let (begun, beginning) = AsyncStream.makeStream(of: Void.self)
        let script = ScriptedFetch(.success(try keySet([old, new])))
        let authenticator = try authenticator { url in
            beginning.yield()
            for await _ in gate { break }
            return try await script.fetch(url)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<20 {
                let header = try header(number % 2 == 0 ? old : new, ["sub": "user \(number)"])
                group.addTask {
                    let name = try await authenticator.principal(header).name
                    #expect(name == "user \(number)")
                }
            }
            for await _ in begun { break }
            opener.yield()
            opener.finish()
            try await group.waitForAll()
        }
        #expect(script.count == 1)
    }

    @Test func keysAreFetchedRegularly() async throws {
        let script = ScriptedFetch(.success(try keySet([old])))
        let authenticator = try authenticator(script.fetch)
        for _ in 0..<601 {
            await authenticator.refreshKeys()
            clock.advance(by: .seconds(1))
        }
        #expect(script.count == 3)
    }

    /// The issuer has taken a key back: what was let in with it ends, and what was not goes on.
    @Test func aWithdrawnKeyRevokes() async throws {
        let script = ScriptedFetch(.success(try keySet([old, new])))
        let authenticator = try authenticator(script.fetch)
        let first = try await authenticator.authenticate(
            authorization: header(old), certificate: nil, source: "")
        let second = try await authenticator.authenticate(
            authorization: header(new), certificate: nil, source: "")
        script.answer(.success(try keySet([new])))
        clock.advance(by: .seconds(300))
        #expect(first.isValid(now: clock.now))
        await authenticator.refreshKeys()
        #expect(first.problem(now: clock.now)?.code == .revoked)
        #expect(second.isValid(now: clock.now))
        #expect(authenticator.known(try header(old)) == nil)
        #expect(await authenticator.refusal(try header(old)) == .unknownKey)

        // The last one, too; and the same name with another key is another key.
        for (keys, code): ([SigningKey], AuthenticationError.Code) in [
            ([], .unknownKey), ([.ed25519("new")], .badSignature),
        ] {
            script.answer(.success(try keySet(keys)))
            clock.advance(by: .seconds(300))
            await authenticator.refreshKeys()
            #expect(second.problem(now: clock.now)?.code == .revoked)
            #expect(await authenticator.refusal(try header(new)) == code)
        }
    }

    @Test func theLastGoodKeysAreKept() async throws {
        let script = ScriptedFetch(.success(try keySet([old])))
        let authenticator = try authenticator(script.fetch)
        let credential = try await authenticator.authenticate(
            authorization: header(old), certificate: nil, source: "")
        clock.advance(by: .seconds(300))
        for answer: Result<String, any Error> in [
            .failure(ScriptedFetch.Unreachable()), .success("<html>"),
            .success(String(repeating: " ", count: (1 << 20) + 1)),
        ] {
            script.answer(answer)
            let count = script.count
            let logged = log.all.count
            for _ in 0..<30 {
                await authenticator.refreshKeys()
                clock.advance(by: .seconds(1))
            }
            // Each ten seconds, and one word about it.
            #expect(script.count == count + 3)
            #expect(log.all.count == logged + 1)
            #expect(credential.isValid(now: clock.now))
            #expect(await authenticator.refusal(try header(old, ["sub": "\(count)"])) == nil)
            // Whether this one is good cannot be said now.
            #expect(await authenticator.refusal(try header(new)) == .keySourceUnavailable)
            clock.advance(by: .seconds(10))
        }
        #expect(log.all.allSatisfy { $0.hasPrefix("warning the keys of JWTs could not be refreshed") })
        #expect(!log.all.joined().contains("canary"))

        script.answer(.success(try keySet([old, new])))
        clock.advance(by: .seconds(10))
        #expect(await authenticator.refusal(try header(new)) == nil)
        #expect(log.all.last?.hasPrefix("info the keys of JWTs are valid again") == true)
    }

    @Test func noKeysAtAllIsUnavailable() async throws {
        let script = ScriptedFetch(.failure(ScriptedFetch.Unreachable()))
        let authenticator = try authenticator(script.fetch)
        for _ in 0..<3 {
            do {
                _ = try await authenticator.authenticate(
                    authorization: header(old), certificate: nil, source: "")
                Issue.record("not refused")
            } catch let error as AuthenticationError {
                #expect(error.code == .keySourceUnavailable && error.isTemporary)
            }
        }
        #expect(script.count == 1)
        #expect(await authenticator.refusal("Bearer one") == .unknownToken)
        script.answer(.success(try keySet([old])))
        clock.advance(by: .seconds(10))
        #expect(await authenticator.refusal(try header(old)) == nil)
    }

    @Test func keysInAFile() async throws {
        let folder = try TestFolder()
        let path = try folder.write(keySet([old]), to: "jwks.json")
        var configuration = AuthenticationConfiguration()
        configuration.jwt = JWTConfiguration(keys: .file(path), issuer: JWT.issuer, audience: JWT.audience)
        let authenticator = try Authenticator(configuration, logger: log.logger, fetch: noFetch) { [clock] in
            clock.now
        }
        let credential = try await authenticator.authenticate(
            authorization: header(old), certificate: nil, source: "")
        #expect(await authenticator.refusal(try header(new)) == .unknownKey)

        try folder.write("{", to: "jwks.json")
        for _ in 0..<3 { authenticator.reload() }
        #expect(credential.isValid(now: clock.now) && log.all.count == 1)
        #expect(await authenticator.refusal(try header(new)) == .unknownKey)
        try FileManager.default.removeItem(atPath: path)
        for _ in 0..<3 { authenticator.reload() }
        #expect(credential.isValid(now: clock.now) && log.all.count == 2)

        try folder.write(keySet([new]), to: "jwks.json")
        for _ in 0..<2 { authenticator.reload() }
        #expect(credential.problem(now: clock.now)?.code == .revoked)
        #expect(await authenticator.refusal(try header(old)) == .unknownKey)
        #expect(await authenticator.refusal(try header(new)) == nil)
        // Nothing of it asks the network.
        await authenticator.refreshKeys()
    }

    @Test func aBadFileKeepsTheServerFromStarting() throws {
        let folder = try TestFolder()
        func problems(_ text: String?) throws -> [String] {
            let path = folder.path("jwks.json")
            if let text { try folder.write(text, to: "jwks.json") }
            var configuration = AuthenticationConfiguration()
            configuration.jwt = JWTConfiguration(keys: .file(path), issuer: "i", audience: "a")
            configuration.tokenFile = folder.path("tokens.yaml")
            do {
                _ = try Authenticator(configuration, logger: quiet, fetch: noFetch)
                return []
            } catch {
                // The other file is named as well.
                #expect(error.problems.count == 2)
                return error.problems.filter { $0.hasPrefix(path) }.map { String($0.dropFirst(path.count)) }
            }
        }
        #expect(try problems(nil) == [": cannot be read: No such file or directory"])
        #expect(
            try problems("") == [": is not a JSON Web Key Set, which is an object with a list named keys"])
        #expect(try problems("{\"keys\": []}") == [": has no usable key"])
        #expect(try problems(keySet([try old.jwk(["d": "AA"])])) == [": has no usable key"])
        #expect(
            try problems(String(repeating: " ", count: (1 << 20) + 1)) == [": is larger than 1048576 bytes"])
    }
}
