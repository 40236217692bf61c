import JobModel
import Testing

@testable import Authentication

@Suite struct CredentialCacheTests {
    private let start = Timestamp(microseconds: 0)

    private func credential(_ name: String, expiry: Timestamp? = nil, revocation: Revocation = Revocation())
        -> Credential
    {
        Credential(
            Principal(name: name, scopes: [], users: .all, expiry: expiry, source: .jwt(keyID: nil)),
            revocation: revocation)
    }

    private func hash(_ number: Int) -> SHA256Hash { SHA256Hash(of: "\(number)") }

    @Test func itNeverGrowsBeyondItsSize() {
        var cache = CredentialCache(countMax: 100)
        for number in 0..<1000 {
            cache.insert(credential("\(number)"), for: hash(number))
            #expect(cache.count <= 100)
            #expect(cache.credential(for: hash(number), now: start)?.principal.name == "\(number)")
        }
        #expect(cache.count >= 50)
        #expect(cache.credential(for: hash(0), now: start) == nil)
    }

    @Test func whatIsUsedStays() {
        var cache = CredentialCache(countMax: 100)
        let used = credential("used")
        cache.insert(used, for: hash(-1))
        for number in 0..<1000 {
            cache.insert(credential("\(number)"), for: hash(number))
            #expect(cache.credential(for: hash(-1), now: start) === used)
            #expect(cache.count <= 100)
        }
    }

    @Test func theSameAgainTakesNoRoom() {
        var cache = CredentialCache(countMax: 4)
        for _ in 0..<10 {
            cache.insert(credential("a"), for: hash(1))
            cache.insert(credential("b"), for: hash(2))
        }
        #expect(cache.count == 2)
    }

    @Test func theExpiredAndTheRevokedAreDropped() {
        var cache = CredentialCache(countMax: 4)
        let revocation = Revocation()
        cache.insert(credential("a", expiry: Timestamp(microseconds: 10)), for: hash(1))
        cache.insert(credential("b", revocation: revocation), for: hash(2))
        // Into the old generation, too.
        cache.insert(credential("c", expiry: Timestamp(microseconds: 10)), for: hash(3))
        #expect(cache.credential(for: hash(3), now: Timestamp(microseconds: 9)) != nil)
        revocation.revoke()
        for number in 1...3 {
            #expect(cache.credential(for: hash(number), now: Timestamp(microseconds: 10)) == nil)
        }
        #expect(cache.count == 0)
    }
}
