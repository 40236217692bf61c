// exact in this file: patterns are ASCII, and a certificate's name is compared only where it is.

/// A name that a certificate is for (RFC 5280, section 4.2.1.6). Two that mean the same are equal.
package struct SubjectAlternativeName: Sendable, Hashable, CustomStringConvertible {
    package enum Kind: String, Sendable, Hashable, CaseIterable {
        case dns, uri, email
    }

    package let kind: Kind
    package let value: String

    private init(kind: Kind, normalized value: String) {
        self.kind = kind
        self.value = value
    }

    package static func dns(_ name: String) -> Self {
        Self(kind: .dns, normalized: name.asciiLowercased())
    }

    /// The name exactly as the certificate has it. Equivalent spellings of a URI depend on its scheme and are not unified.
    package static func uri(_ text: String) -> Self { Self(kind: .uri, normalized: text) }

    /// The case of what is before the '@' is the host's affair, the host's is none.
    package static func email(_ address: String) -> Self {
        // By bytes: a certificate may have any text here.
        guard let at = address.utf8.lastIndex(of: UInt8(ascii: "@")) else {
            return Self(kind: .email, normalized: address)
        }
        return Self(kind: .email, normalized: address[..<at] + address[at...].asciiLowercased())
    }

    /// The form of the configuration: `dns:…`, `uri:…` or `email:…`.
    package var description: String { "\(kind.rawValue):\(value)" }
}

extension SubjectAlternativeName {
    /// One name, or all URIs that differ in the last part of their path only.
    package struct Pattern: Sendable, Hashable, CustomStringConvertible {
        let kind: Kind
        /// All of it, or up to and with the last '/'.
        let text: String
        let isPrefix: Bool

        /// From `dns:…`, `uri:…` or `email:…`; a URI may end in `/*`. Nil: it is none of these.
        package init?(_ text: String) {
            guard let colon = text.firstIndex(of: ":"), let kind = Kind(rawValue: String(text[..<colon]))
            else {
                return nil
            }
            let value = String(text[colon...].dropFirst())
            guard !value.isEmpty, value.unicodeScalars.allSatisfy({ (0x21...0x7e).contains($0.value) }) else {
                return nil
            }
            var name: SubjectAlternativeName
            switch kind {
            case .dns:
                name = .dns(value)
            case .email:
                guard value.contains("@") else { return nil }
                name = .email(value)
            case .uri:
                guard let colon = value.firstIndex(of: ":"), colon > value.startIndex else { return nil }
                name = .uri(value)
            }
            isPrefix = value.hasSuffix("/*")
            if isPrefix {
                name = SubjectAlternativeName(kind: kind, normalized: String(name.value.dropLast()))
                guard kind == .uri, Self.hasAuthority(name.value) else { return nil }
            }
            // Anywhere else it would stand for itself, which is not what its writer meant.
            guard !name.value.contains("*") else { return nil }
            self.kind = kind
            self.text = name.value
        }

        package var description: String { "\(kind.rawValue):\(text)" + (isPrefix ? "*" : "") }

        /// A prefix such as `spiffe://example.org/`: only the last part of the path may be left open, never the host.
        private static func hasAuthority(_ prefix: String) -> Bool {
            guard let start = prefix.firstRange(of: "://")?.upperBound,
                let slash = prefix[start...].firstIndex(of: "/")
            else { return false }
            return slash > start && !prefix.contains("?") && !prefix.contains("#")
        }
    }
}

/// Finds the first rule that knows one of a certificate's names.
struct CertificateRules: Sendable {
    private let rules: [CertificateRule]
    /// By name, and by what is before the last part of the path.
    private var exact: [SubjectAlternativeName: Int] = [:]
    private var prefixes: [Substring: Int] = [:]

    init(_ rules: [CertificateRule]) {
        self.rules = rules
        for (index, rule) in rules.enumerated().reversed() {
            if rule.pattern.isPrefix {
                prefixes[rule.pattern.text[...]] = index
            } else {
                exact[SubjectAlternativeName(rule.pattern)] = index
            }
        }
    }

    var isEmpty: Bool { rules.isEmpty }

    func first(for names: [SubjectAlternativeName]) -> (rule: CertificateRule, name: SubjectAlternativeName)?
    {
        var best: (index: Int, name: SubjectAlternativeName)?
        for name in names {
            guard let index = index(for: name), index < best?.index ?? .max else { continue }
            best = (index, name)
        }
        return best.map { (rules[$0.index], $0.name) }
    }

    private func index(for name: SubjectAlternativeName) -> Int? {
        // As the rules have them. Of other characters some are equal to one of these for Swift, or take in a '/'.
        guard name.value.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
        let found = exact[name]
        guard name.kind == .uri, let slash = name.value.lastIndex(of: "/") else { return found }
        let last = name.value[slash...].dropFirst()
        // Something, and nothing but a part of the path.
        guard !last.isEmpty, last != ".", last != "..", !last.contains(where: { "?#%*".contains($0) }),
            let prefix = prefixes[name.value[...slash]]
        else { return found }
        return min(found ?? .max, prefix)
    }
}

extension SubjectAlternativeName {
    fileprivate init(_ pattern: Pattern) {
        self.init(kind: pattern.kind, normalized: pattern.text)
    }
}

extension StringProtocol {
    /// Names of hosts are ASCII: other letters are left as they are.
    fileprivate func asciiLowercased() -> String {
        String(decoding: utf8.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }
}
