import Dispatch
import Foundation
import JobModel
import Synchronization
import Testing

@testable import Authentication

/// One at a time: they hold the threads of all checks.
@Suite(.serialized, .timeLimit(.minutes(2))) struct TokenChecksTests {
    @Test func noMoreAtOnceThanThreads() async throws {
        let checks = try TokenChecks()
        let running = Running()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<50 {
                group.addTask {
                    try await checks.run(for: "\(number % 3)") { () throws(AuthenticationError) in
                        running.count.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                        let end = ContinuousClock.now + .milliseconds(1)
                        while ContinuousClock.now < end {}
                        running.count.withLock { $0.now -= 1 }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect((1...TokenChecks.threadCount).contains(running.count.withLock { $0.most }))
    }

    private func issuer() throws -> (Authenticator, SigningKey) {
        let (folder, key, clock) = (try TestFolder(), SigningKey.ed25519(), TestClock())
        var configuration = AuthenticationConfiguration()
        configuration.jwt = JWTConfiguration(
            keys: .file(try folder.write(keySet([key]), to: "jwks.json")), issuer: JWT.issuer,
            audience: JWT.audience)
        return (try Authenticator(configuration, logger: quiet, fetch: noFetch) { clock.now }, key)
    }

    /// Of 1,001 tokens that are to be checked, one is told to come again, and at once. Of one token there may be as many
    /// calls as they like.
    @Test func noMoreWaitThanAreAllowed() async throws {
        let (authenticator, key) = try issuer()
        let headers = try (0...TokenChecks.checksMax).map {
            "Bearer \(try key.token(JWT.claims(["jti": "\($0)"])))"
        }
        let held = try await HeldThreads()
        await withTaskGroup(of: AuthenticationError?.self) { group in
            for _ in 0..<1_000 {
                group.addTask { await authenticator.failure(headers[0], from: "0") }
            }
            for (number, header) in headers.enumerated() {
                group.addTask { await authenticator.failure(header, from: "\(number % 9)") }
            }
            let refusal = await group.next() ?? nil
            #expect(refusal == .tooManyChecks && refusal?.isTemporary == true)
            held.release()
            #expect(await group.allSatisfy { $0 == nil })
        }
        // Every place is free again.
        for _ in 0..<10 {
            await withTaskGroup(of: AuthenticationError.Code?.self) { group in
                for number in 0..<100 {
                    group.addTask { await authenticator.refusal("Bearer a.b.\(number)") }
                }
                #expect(await group.allSatisfy { $0 == .malformedToken })
            }
        }
    }

    /// One source with more tokens than it may have checked at once does not take the places of another.
    @Test func aSourceMayHaveAnEighthOfTheChecks() async throws {
        let (authenticator, key) = try issuer()
        let most = TokenChecks.checksMax / 8
        let flood = try (0..<2 * TokenChecks.checksMax).map {
            "Bearer \(try key.token(JWT.claims(["jti": "\($0)"])))"
        }
        let honest = try (0..<most).map { "Bearer \(try key.token(JWT.claims(["jti": "honest \($0)"])))" }
        let held = try await HeldThreads()
        await withTaskGroup(of: (isHonest: Bool, failure: AuthenticationError?).self) { group in
            for header in flood { group.addTask { (false, await authenticator.failure(header, from: "a")) } }
            for _ in 0..<flood.count - most { #expect(await group.next()?.failure == .tooManyChecks) }
            for header in honest { group.addTask { (true, await authenticator.failure(header, from: "b")) } }
            held.release()
            var letIn = (honest: 0, flood: 0)
            for await (isHonest, failure) in group {
                #expect(failure == nil)
                if isHonest { letIn.honest += 1 } else { letIn.flood += 1 }
            }
            #expect(letIn.honest == most && letIn.flood == most)
        }
    }

    @Test func whatAuthenticationComesToIsThrown() async {
        await #expect(throws: AuthenticationError.badSignature) {
            try await (try TokenChecks()).run(for: "") { () throws(AuthenticationError) in throw .badSignature
            }
        }
    }
}

extension Authenticator {
    /// Nil: the caller is let in.
    fileprivate func failure(_ header: String, from source: String) async -> AuthenticationError? {
        do throws(AuthenticationError) {
            _ = try await authenticate(authorization: header, certificate: nil, source: source)
            return nil
        } catch { return error }
    }
}

private final class Running: Sendable {
    let count = Mutex((now: 0, most: 0))
}

/// All threads of checks, which do nothing until they are released.
private final class HeldThreads: Sendable {
    private let gate = DispatchSemaphore(value: 0)

    /// Returns when no thread does anything else.
    init() async throws {
        let threads = try TokenChecks.threads.get()
        let (begun, beginning) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<TokenChecks.threadCount {
            Task.detached(executorPreference: threads) { [self] in
                beginning.yield()
                hold()
            }
        }
        var beginnings = begun.makeAsyncIterator()
        for _ in 0..<TokenChecks.threadCount { await beginnings.next() }
    }

    private func hold() { gate.wait() }

    func release() {
        for _ in 0..<TokenChecks.threadCount { gate.signal() }
    }
}
