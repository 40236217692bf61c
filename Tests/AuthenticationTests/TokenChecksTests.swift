import Dispatch
import Foundation
import JobCore
import Synchronization
import Testing

@testable import Authentication

/// One at a time: they hold the threads of all checks.
@Suite(.serialized) struct TokenChecksTests {
    @Test func noMoreAtOnceThanThreads() async throws {
        let checks = TokenChecks()
        let running = Running()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    try await checks.run { () throws(AuthenticationError) in
                        running.count.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                        let end = ContinuousClock.now + .milliseconds(1)
                        while ContinuousClock.now < end {}
                        running.count.withLock { $0.now -= 1 }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect((1...CheckThreads.count).contains(running.count.withLock { $0.most }))
    }

    /// Of 1,001 calls with a token that is to be checked, one is told to come again, and at once.
    @Test func noMoreWaitThanAreAllowed() async throws {
        let (folder, key, clock) = (try TestFolder(), SigningKey.ed25519(), TestClock())
        var configuration = AuthenticationConfiguration()
        configuration.jwt = JWTConfiguration(
            keys: .file(try folder.write(keySet([key]), to: "jwks.json")), issuer: JWT.issuer,
            audience: JWT.audience)
        let authenticator = try Authenticator(configuration, logger: quiet, fetch: noFetch) { clock.now }
        let header = "Bearer \(try key.token(JWT.claims()))"
        let held = await HeldThreads()
        await withTaskGroup(of: AuthenticationError?.self) { group in
            for _ in 0...TokenChecks.checksMax {
                group.addTask {
                    do throws(AuthenticationError) {
                        _ = try await authenticator.authenticate(authorization: header, certificate: nil)
                        return nil
                    } catch { return error }
                }
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

    /// Nothing is done for a caller who is gone, and his place is the next one's.
    @Test func whoIsGoneIsSkipped() async throws {
        let checks = TokenChecks(checksMax: 1)
        let checked = Running()
        let held = await HeldThreads()
        let call = Task {
            do throws(AuthenticationError) {
                try await checks.run { () throws(AuthenticationError) in
                    checked.count.withLock { $0.most += 1 }
                }
                return true
            } catch { return false }
        }
        call.cancel()
        held.release()
        #expect(await !call.value && checked.count.withLock { $0.most } == 0)
        #expect(try await checks.run { () throws(AuthenticationError) in 1 } == 1)
    }

    @Test func whatAuthenticationComesToIsThrown() async {
        await #expect(throws: AuthenticationError.badSignature) {
            try await TokenChecks().run { () throws(AuthenticationError) in throw .badSignature }
        }
    }
}

private final class Running: Sendable {
    let count = Mutex((now: 0, most: 0))
}

/// All threads of checks, which do nothing until they are released.
private final class HeldThreads: Sendable {
    private let gate = DispatchSemaphore(value: 0)

    /// Returns when no thread does anything else.
    init() async {
        let (begun, beginning) = AsyncStream.makeStream(of: Void.self)
        for _ in 0..<CheckThreads.count {
            Task.detached(executorPreference: CheckThreads.shared) { [self] in
                beginning.yield()
                hold()
            }
        }
        var beginnings = begun.makeAsyncIterator()
        for _ in 0..<CheckThreads.count { await beginnings.next() }
    }

    private func hold() { gate.wait() }

    func release() {
        for _ in 0..<CheckThreads.count { gate.signal() }
    }
}
