import Crypto
import Foundation
package import JobModel
package import Support

/// Makes and reads resume tokens: where a watch can go on, for one subject.
///
/// A token is encrypted, because a place in the change log would tell how many transactions the database has had, and it
/// is authenticated, so that the server reads only what it has written. It gives no rights: a watch that resumes is checked
/// as a new one is.
///
///     base64url(version: 1 byte, digest of the subject: 16, nonce: 12, encrypted place, tag: 16)
package struct ResumeTokens: Sendable {
    /// The name of the secret in the database. All nodes share it, so each can read the tokens of the others.
    package static let secretName: StaticString = "resume_token"

    /// The meaning of a token for a watch of a subject.
    package enum Reading: Sendable, Equatable {
        case place(WatchPlace)
        /// This service has made the token for another subject.
        case ofAnotherSubject
        /// It is none of this service's tokens, or one of another version.
        case unusable
    }

    private static let version: UInt8 = 2
    private static let digestBytes = 16

    private let secret: SymmetricKey

    /// - Parameter secret: 32 random bytes, which are the same on all nodes.
    package init(secret: [UInt8]) {
        self.secret = SymmetricKey(data: secret)
    }

    /// Nil if the token would be longer than `JobLimits.resumeTokenBytesMax`: a watch of very many jobs with very large
    /// sequences has none.
    ///
    /// - Parameter users: whose jobs the watch reports. A token for other users is not usable, because their jobs had no
    ///   snapshots.
    package func encode(
        _ place: WatchPlace, of subject: WatchSubject, for users: UserScope = .all
    ) -> String? {
        let digest = Self.digest(of: subject)
        guard let bytes = PlaceCoding.encode(place),
            let sealed = try? ChaChaPoly.seal(
                Data(Self.prefix(users, of: subject) + bytes), using: key(of: digest)
            ).combined
        else { return nil }
        let token = Base64.url.encode([Self.version] + digest + sealed)
        guard token.count <= JobLimits.resumeTokenBytesMax else { return nil }
        return String(decoding: token, as: UTF8.self)
    }

    package func decode(
        _ token: ExactText, of subject: WatchSubject, for users: UserScope = .all
    ) -> Reading {
        guard token.utf8.count <= JobLimits.resumeTokenBytesMax,
            let bytes = Base64.url.decode(Array(token.utf8)[...]), bytes.count > Self.digestBytes,
            bytes[0] == Self.version
        else { return .unusable }
        let digest = Array(bytes[1...Self.digestBytes])
        guard let box = try? ChaChaPoly.SealedBox(combined: Data(bytes[(1 + Self.digestBytes)...])),
            let opened = try? ChaChaPoly.open(box, using: key(of: digest))
        else { return .unusable }
        guard digest == Self.digest(of: subject) else { return .ofAnotherSubject }
        let prefix = Self.prefix(users, of: subject)
        guard opened.starts(with: prefix) else { return .unusable }
        return PlaceCoding.decode(Array(opened.dropFirst(prefix.count)), of: subject).map { .place($0) }
            ?? .unusable
    }

    /// Each subject has a key of its own, so that random nonces of 96 bits suffice for all tokens of one key.
    private func key(of digest: [UInt8]) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: secret, info: Data("signalbox resume token 1".utf8) + digest,
            outputByteCount: 32)
    }

    /// The bytes before the place: a digest of the users. Named jobs are looked up for their caller, so there is none.
    private static func prefix(_ users: UserScope, of subject: WatchSubject) -> [UInt8] {
        guard case .all = subject else { return [] }
        var hash = SHA256()
        if case .only(let users) = users {
            for user in users.sorted() {
                withUnsafeBytes(of: Int64(user.utf8.count).bigEndian) { hash.update(bufferPointer: $0) }
                hash.update(data: Array(user.utf8))
            }
        } else {
            hash.update(data: Data("all".utf8))
        }
        return Array(hash.finalize().prefix(8))
    }

    private static func digest(of subject: WatchSubject) -> [UInt8] {
        var hash = SHA256()
        func add(_ text: String?) {
            withUnsafeBytes(of: Int64(text?.utf8.count ?? -1).bigEndian) { hash.update(bufferPointer: $0) }
            hash.update(data: Array((text ?? "").utf8))
        }
        switch subject {
        case .jobs(let ids):
            add("jobs")
            for id in PlaceCoding.ordered(ids) {
                withUnsafeBytes(of: id.uuid.uuid) { hash.update(bufferPointer: $0) }
            }
        case .all(let userID, let queue):
            add("all")
            add(userID?.text)
            add(queue)
        }
        return Array(hash.finalize().prefix(digestBytes))
    }
}

/// A place as bytes. The jobs are not named again: their places are in the order of their ids. Numbers take a byte for
/// each 7 bits, so that a thousand jobs fit into a token.
enum PlaceCoding {
    private enum Kind {
        static let jobs: UInt8 = 1
        static let changes: UInt8 = 2
    }

    static func ordered(_ ids: some Sequence<JobID>) -> [JobID] {
        ids.sorted { $0.uuid < $1.uuid }
    }

    /// Nil: it has a negative number, which no place has.
    static func encode(_ place: WatchPlace) -> [UInt8]? {
        var bytes: [UInt8] = []
        switch place {
        case .jobs(let places):
            bytes.append(Kind.jobs)
            var last: Int64 = 0
            for id in ordered(places.keys) {
                switch places[id] {
                case .sent(let number, let sequence, let logLine):
                    guard number >= 0, sequence >= 0, logLine >= 0 else { return nil }
                    append(UInt64(sequence) + 1, to: &bytes)
                    append(UInt64(logLine), to: &bytes)
                    // Jobs whose ids are close mostly have numbers that are close.
                    append(zigzag(number - last), to: &bytes)
                    last = number
                case .removed, nil:
                    append(0, to: &bytes)
                }
            }
        case .changes(let place):
            guard place.at.microseconds >= 0 else { return nil }
            bytes.append(Kind.changes)
            append(UInt64(place.at.microseconds), to: &bytes)
            append(place.xmax, to: &bytes)
            for xid in place.xip {
                guard xid <= place.xmax else { return nil }
                append(place.xmax - xid, to: &bytes)
            }
        }
        return bytes
    }

    /// Nil: the bytes are not a place of this subject.
    static func decode(_ bytes: [UInt8], of subject: WatchSubject) -> WatchPlace? {
        guard let kind = bytes.first else { return nil }
        var rest = bytes.dropFirst()
        switch (kind, subject) {
        case (Kind.jobs, .jobs(let ids)):
            var places: [JobID: JobPlace] = [:]
            var last: Int64 = 0
            for id in ordered(ids) {
                guard let next = takeNumber(from: &rest) else { return nil }
                guard next > 0 else {
                    places[id] = .removed
                    continue
                }
                guard let sequence = Int64(exactly: next - 1),
                    let logLine = takeNumber(from: &rest).flatMap({ Int64(exactly: $0) }),
                    let difference = takeNumber(from: &rest)
                else { return nil }
                let (number, overflows) = last.addingReportingOverflow(unzigzag(difference))
                guard !overflows, number >= 0 else { return nil }
                places[id] = .sent(number: number, sequence: sequence, logLine: logLine)
                last = number
            }
            return rest.isEmpty ? .jobs(places) : nil
        case (Kind.changes, .all):
            guard let at = takeNumber(from: &rest).flatMap({ Int64(exactly: $0) }),
                let xmax = takeNumber(from: &rest)
            else { return nil }
            var xip: [UInt64] = []
            while !rest.isEmpty {
                guard let back = takeNumber(from: &rest), back <= xmax else { return nil }
                xip.append(xmax - back)
            }
            return .changes(ChangePlace(xmax: xmax, xip: xip, at: Timestamp(microseconds: at)))
        default:
            return nil
        }
    }

    private static func zigzag(_ number: Int64) -> UInt64 {
        UInt64(bitPattern: number << 1 ^ number >> 63)
    }

    private static func unzigzag(_ number: UInt64) -> Int64 {
        Int64(bitPattern: number >> 1) ^ -Int64(bitPattern: number & 1)
    }

    private static func append(_ number: UInt64, to bytes: inout [UInt8]) {
        var number = number
        while number > 0x7F {
            bytes.append(UInt8(truncatingIfNeeded: number) | 0x80)
            number >>= 7
        }
        bytes.append(UInt8(number))
    }

    private static func takeNumber(from bytes: inout ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte = bytes.popFirst() else { return nil }
            let digit = UInt64(byte & 0x7F)
            guard shift < 63 || digit <= 1 else { return nil }
            number |= digit << shift
            if byte & 0x80 == 0 { return number }
        }
        return nil
    }
}
