// exact in this file: the file is the operator's, and its keys are compared by their bytes.

internal import Foundation
package import JobModel
import LocatedYAML
import Support
internal import Yams

/// The file of the bearer tokens that the service accepts: for each its hash and its principal.
///
/// A plain SHA-256 is enough for them, although passwords need a slow hash: a token is 256 random bits that
/// this program made, too many for a search by force. So each call can afford the check.
package enum TokenFile {
    package static let bytesMax = 1 << 20
    package static let tokensMax = 10_000
    /// The most problems that are reported. The rest of the file is then not checked.
    private static let problemsMax = 20

    /// The prefix by which secret scanners find tokens in repositories and logs.
    package static let tokenPrefix = "sbx_"

    package struct Entry: Sendable, Hashable {
        package var name: String
        package var hash: SHA256Hash
        package var scopes: Set<Scope>
        package var users: UserGrant
        /// The time at which the token expires; nil: never.
        package var expiry: Timestamp?

        package init(
            name: String, hash: SHA256Hash, scopes: Set<Scope>, users: UserGrant = .itself,
            expiry: Timestamp? = nil
        ) {
            self.name = name
            self.hash = hash
            self.scopes = scopes
            self.users = users
            self.expiry = expiry
        }

        /// Compares names byte for byte, because another spelling of the name is another principal.
        package static func == (left: Self, right: Self) -> Bool {
            left.name.hasSameBytes(as: right.name) && left.hash == right.hash
                && left.scopes == right.scopes && left.users == right.users && left.expiry == right.expiry
        }

        var principal: Principal {
            Principal(
                name: name, scopes: scopes, users: users.users(of: name), expiry: expiry, source: .tokenFile)
        }

        /// The entry as it is written below `tokens:` in the file.
        package var yaml: String {
            var lines = ["  - name: \(Self.quoted(name))", "    hash: \(hash)"]
            let scopes = Scope.allCases.filter(scopes.contains).map(\.rawValue)
            lines.append("    scopes: [\(scopes.joined(separator: ", "))]")
            switch users {
            case .itself: break
            case .all: lines.append("    users: all")
            case .only(let users):
                lines.append(
                    "    users: [\(users.map(\.text).sorted().map(Self.quoted).joined(separator: ", "))]")
            }
            if let expiry { lines.append("    expires: \(expiry.iso8601)") }
            return lines.joined(separator: "\n") + "\n"
        }

        private static func quoted(_ text: String) -> String {
            "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\""
        }
    }

    /// Makes a new token, which is to be shown once. The file contains only its hash.
    package static func newToken() -> String {
        var generator = SystemRandomNumberGenerator()
        let secret = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        return tokenPrefix + String(decoding: Base64.url.encode(secret), as: UTF8.self)
    }

    /// Parses the file.
    ///
    /// - Parameter name: the name of the file in problems.
    /// - Throws: an error that names lines and what is wrong there. It quotes nothing of the file, because a
    ///   token may have been written where its hash belongs.
    package static func parse(
        _ bytes: [UInt8], name: String
    ) throws(AuthenticationConfigurationError) -> [Entry] {
        var walker = Walker(yaml: LocatedYAML(name: name))
        let entries = walker.entries(bytes)
        guard walker.problems.isEmpty else {
            throw AuthenticationConfigurationError(problems: walker.problems)
        }
        return entries
    }

    private struct Walker {
        private var yaml: LocatedYAML
        /// The line of each hash's entry.
        private var lines: [SHA256Hash: Int] = [:]

        init(yaml: LocatedYAML) { self.yaml = yaml }

        var problems: [String] { yaml.problems }
        private var problemCount: Int { yaml.problemCount }

        private mutating func report(_ line: Int?, _ problem: String) {
            yaml.report(line: line, problem)
        }

        mutating func entries(_ bytes: [UInt8]) -> [Entry] {
            guard let text = String(validating: bytes, as: UTF8.self) else {
                report(nil, "is not UTF-8")
                return []
            }
            // A file that was written only in part can still be valid: a user bobby may have become bob.
            guard bytes.isEmpty || bytes.last == UInt8(ascii: "\n") else {
                report(
                    bytes.count { $0 == UInt8(ascii: "\n") } + 1,
                    "the last line does not end with a newline, so the file may be incomplete: end it with a newline"
                )
                return []
            }
            // An empty file is taken for one that is being written. `tokens: []` revokes all tokens.
            let root = yaml.document(text)
            guard let root, let members = members(of: root, ["tokens"], "must contain a list named tokens"),
                let list = members["tokens"]
            else {
                if problemCount == 0 { report(root?.mark?.line, "must contain a list named tokens") }
                return []
            }
            guard let sequence = list.sequence else {
                report(list.mark?.line, "tokens must be a list")
                return []
            }
            guard sequence.count <= TokenFile.tokensMax else {
                report(list.mark?.line, "there are more than \(TokenFile.tokensMax) tokens")
                return []
            }
            var entries: [Entry] = []
            for node in sequence where problemCount < TokenFile.problemsMax {
                if let entry = entry(node) { entries.append(entry) }
            }
            return entries
        }

        /// Reads one entry. Nil if something is wrong, which has been reported.
        private mutating func entry(_ node: Node) -> Entry? {
            let line = node.mark?.line
            let keys: Set = ["name", "hash", "scopes", "users", "expires"]
            let before = problemCount
            guard let members = members(of: node, keys, "a token must have name, hash and scopes") else {
                return nil
            }
            let name = members["name"].flatMap { self.name($0) }
            let hash = members["hash"].flatMap { self.hash($0) }
            let scopes = members["scopes"].flatMap { self.scopes($0) }
            let users = members["users"].map { self.users($0) } ?? .itself
            let expiry = members["expires"].map { self.expiry($0) }
            for key in ["name", "hash", "scopes"] where members[key] == nil {
                report(line, "a token has no \(key)")
            }
            guard problemCount == before, let name, let hash, let scopes, let users else { return nil }
            if let other = lines.updateValue(line ?? 0, forKey: hash) {
                report(line, "has the same hash as line \(other)")
                return nil
            }
            return Entry(name: name, hash: hash, scopes: scopes, users: users, expiry: expiry ?? nil)
        }

        private mutating func members(
            of node: Node, _ known: Set<String>, _ problem: String
        ) -> [String: Node]? {
            let members = yaml.members(of: node, known: known, notMapping: problem) { _ in
                "unknown key: known keys are \(known.sorted().joined(separator: ", "))"
            }
            return members.map {
                Dictionary($0.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
            }
        }

        private mutating func name(_ node: Node) -> String? {
            if let text = node.scalar?.string, PrincipalName.isValid(text) { return text }
            report(
                node.mark?.line,
                "name must be \(PrincipalName.rule)")
            return nil
        }

        private mutating func hash(_ node: Node) -> SHA256Hash? {
            if let hash = node.scalar.flatMap({ SHA256Hash($0.string) }) { return hash }
            report(node.mark?.line, "hash must be sha256: and 64 hexadecimal digits, not the token itself")
            return nil
        }

        private mutating func scopes(_ node: Node) -> Set<Scope>? {
            let scopes = (node.sequence ?? []).compactMap { Scope(exactly: $0.scalar?.string ?? "") }
            if let count = node.sequence?.count, count > 0, scopes.count == count { return Set(scopes) }
            let known = Scope.allCases.map(\.rawValue).joined(separator: ", ")
            report(node.mark?.line, "scopes must be a list of at least one of \(known)")
            return nil
        }

        private mutating func users(_ node: Node) -> UserGrant? {
            if node.scalar?.string.hasSameBytes(as: "all") == true { return .all }
            let users = (node.sequence ?? []).compactMap { $0.scalar?.string }.filter(PrincipalName.isValid)
            if let count = node.sequence?.count, count == users.count, count <= UserGrant.usersMax {
                return .only(Set(users.map(ExactText.init(_:))))
            }
            report(
                node.mark?.line,
                "users must be all, or a list of at most \(UserGrant.usersMax) users, each \(PrincipalName.rule)"
            )
            return nil
        }

        private mutating func expiry(_ node: Node) -> Timestamp? {
            if let time = node.scalar.flatMap({ Timestamp(iso8601: $0.string) }) { return time }
            report(node.mark?.line, "expires must be a time with its zone, as in 2030-01-31T12:00:00Z")
            return nil
        }
    }
}

extension Timestamp {
    /// The time to the second, as in `2030-01-31T12:00:00Z`.
    var iso8601: String {
        Date(timeIntervalSince1970: Double(microseconds) / 1_000_000).formatted(.iso8601)
    }

    /// Parses a time with its zone. Nil for other text, and for times before 1970.
    init?(iso8601 text: String) {
        let bytes = Array(text.utf8)
        // The parser below accepts more and shorter forms than these two.
        guard bytes.count == 20 || bytes.count == 25, bytes[10] == UInt8(ascii: "T"),
            bytes.count == 20 ? bytes[19] == UInt8(ascii: "Z") : bytes[22] == UInt8(ascii: ":"),
            let date = try? Date(text, strategy: .iso8601), date.timeIntervalSince1970 >= 0
        else { return nil }
        self.init(secondsSince1970: date.timeIntervalSince1970)
    }
}
