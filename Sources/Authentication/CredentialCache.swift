internal import JobModel

/// JWTs that were verified before, by the hash of the whole token: checking a signature costs as much as a whole
/// call.
///
/// Only what is good gets in, so a flood of bad tokens cannot empty it. Two generations, so that it forgets what
/// nobody uses without keeping a list of who was used when: when the young one is full it becomes the old one, and
/// what is asked for again moves on.
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
