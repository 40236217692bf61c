internal import JobModel

/// A cache of verified JWTs by the hash of the whole token, because checking a signature costs as much as a
/// whole call.
///
/// Only valid tokens are cached, so a flood of invalid ones cannot evict them. There are two generations
/// instead of a least-recently-used list: when the young generation is full it becomes the old one, and a
/// token that is used again moves to the young one.
struct CredentialCache: Sendable {
    private let generationMax: Int
    private var young: [SHA256Hash: Credential] = [:]
    private var old: [SHA256Hash: Credential] = [:]

    init(countMax: Int) {
        generationMax = countMax / 2
    }

    var count: Int { young.count + old.count }

    mutating func credential(for hash: SHA256Hash, now: Timestamp) -> Credential? {
        if let credential = young[hash] {
            if credential.isValid(now: now) { return credential }
            young[hash] = nil
            return nil
        }
        guard let credential = old.removeValue(forKey: hash), credential.isValid(now: now) else { return nil }
        insert(credential, for: hash)
        return credential
    }

    mutating func insert(_ credential: Credential, for hash: SHA256Hash) {
        if young.count >= generationMax, young[hash] == nil {
            old = young
            young = [:]
        }
        old[hash] = nil
        young[hash] = credential
    }
}
