package import Yams

/// Reads a YAML file that people write, and collects everything that is wrong with it, each problem with the file's name
/// and its line. A problem never quotes a value: it may be a secret in the wrong line.
package struct LocatedYAML {
    package struct Member {
        package let key: String
        package let value: Node
    }

    /// The file's name as problems show it.
    package let name: String
    private var found: [(line: Int, problem: String)] = []

    package init(name: String) {
        self.name = name
    }

    package mutating func report(line: Int?, _ problem: String) {
        found.append((line ?? 0, "\(name)\(line.map { ":\($0)" } ?? ""): \(problem)"))
    }

    /// The problems in the order of their lines.
    package var problems: [String] {
        found.enumerated().sorted { ($0.element.line, $0.offset) < ($1.element.line, $1.offset) }
            .map(\.element.problem)
    }

    package var problemCount: Int { found.count }

    package mutating func report(_ node: Node, _ problem: String) {
        report(line: node.mark?.line, problem)
    }

    /// The document of a text; nil where there is none, or where it is not YAML, which is reported.
    package mutating func document(_ text: String) -> Node? {
        do {
            return try Yams.compose(yaml: text)
        } catch {
            // The library's own description quotes the line.
            switch error {
            case YamlError.scanner(_, let problem, let mark, _),
                YamlError.parser(_, let problem, let mark, _),
                YamlError.composer(_, let problem, let mark, _):
                report(line: mark.line, "is not YAML: \(problem)")
            case YamlError.duplicatedKeysInMapping(_, let context):
                report(line: context.mark.line, "has a key twice")
            default:
                report(line: nil, "is not YAML")
            }
            return nil
        }
    }

    /// The members of a mapping whose keys are known; the others are reported.
    ///
    /// - Parameters:
    ///   - known: nil: all keys.
    ///   - notMapping: the problem to report for a node that is not a mapping, for which the result is nil.
    ///   - unknown: the problem that is reported of an unknown key.
    package mutating func members(
        of node: Node, known: Set<String>?, notMapping: String, unknown: (String) -> String
    ) -> [Member]? {
        guard let mapping = node.mapping else {
            report(node, notMapping)
            return nil
        }
        var members: [Member] = []
        for (keyNode, value) in mapping {
            let key = keyNode.scalar?.string ?? ""
            // exact: the known keys are ASCII, and the file is the operator's
            if let known, !known.contains(key) {
                report(keyNode, unknown(key))
            } else {
                members.append(Member(key: key, value: value))
            }
        }
        return members
    }
}
