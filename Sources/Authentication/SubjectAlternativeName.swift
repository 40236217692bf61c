// exact in this file: patterns are ASCII, and a certificate's name is compared only where it is.

/// A name that a certificate is valid for (RFC 5280, section 4.2.1.6). Equivalent DNS names and email
/// addresses are equal.
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

    /// An email address. Case matters in the part before the '@', by the rules of its host, and not in the
    /// host.
    package static func email(_ address: String) -> Self {
        // Searches bytes, because a certificate may contain any text here.
        guard let at = address.utf8.lastIndex(of: UInt8(ascii: "@")) else {
            return Self(kind: .email, normalized: address)
        }
        return Self(kind: .email, normalized: address[..<at] + address[at...].asciiLowercased())
    }

    /// The form in the configuration: `dns:…`, `uri:…` or `email:…`.
    package var description: String { "\(kind.rawValue):\(value)" }
}

extension SubjectAlternativeName {
    /// A pattern for one name, or for all URIs that differ only in the last part of their path.
    package struct Pattern: Sendable, Hashable, CustomStringConvertible {
        let kind: Kind
        /// The whole name, or a prefix that ends with the last '/'.
        let text: String
        let isPrefix: Bool

        /// Parses `dns:…`, `uri:…` or `email:…`; a URI may end in `/*`. Nil for any other text.
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
            // Anywhere else a `*` would stand for itself, which is not what its writer meant.
            guard !name.value.contains("*") else { return nil }
            self.kind = kind
            self.text = name.value
        }

        package var description: String { "\(kind.rawValue):\(text)" + (isPrefix ? "*" : "") }

        /// Whether a prefix such as `spiffe://example.org/` contains the host: a pattern may leave only the
        /// last part of the path open.
        private static func hasAuthority(_ prefix: String) -> Bool {
            guard let start = prefix.firstRange(of: "://")?.upperBound,
                let slash = prefix[start...].firstIndex(of: "/")
            else { return false }
            return slash > start && !prefix.contains("?") && !prefix.contains("#")
        }
    }
}

/// Finds the first rule that matches one of a certificate's names.
struct CertificateRules: Sendable {
    private let rules: [CertificateRule]
    /// The indexes of the rules by name, and by the prefix of a pattern that ends in `*`.
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
        // The rules contain only these characters. Swift treats some other characters as equal to one of
        // them, or as one with a '/'.
        guard name.value.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
        let found = exact[name]
        guard name.kind == .uri, let slash = name.value.lastIndex(of: "/") else { return found }
        let last = name.value[slash...].dropFirst()
        // The open part must be one non-empty part of the path.
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
    /// The text with ASCII letters in lower case. Host names are ASCII; other letters are left as they are.
    fileprivate func asciiLowercased() -> String {
        String(decoding: utf8.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }
}
