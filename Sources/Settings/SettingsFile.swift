import Authentication
import Foundation
import JobEngine
import JobModel
import LocatedYAML
import Support
import Yams

/// The contents of a settings file, with unknown keys reported.
struct SettingsFile {
    struct Scalar {
        var text: String
        var line: Int
    }

    static let bytesMax = 1 << 20

    /// The path of the file, as it was given.
    let name: String
    private(set) var scalars: [String: Scalar] = [:]
    private(set) var queues: [String: QueueSettings] = [:]
    private(set) var commands: [CommandDefinition] = []
    private(set) var certificates: [CertificateRule] = []

    /// The text of the file at `path`.
    static func read(_ path: String) throws(SettingsError) -> String {
        do {
            let file = try FileHandle(forReadingFrom: URL(filePath: path))
            defer { try? file.close() }
            let bytes = try file.read(upToCount: bytesMax + 1) ?? Data()
            guard bytes.count <= bytesMax else {
                throw SettingsError(problems: ["\(path): is larger than \(bytesMax) bytes"])
            }
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw SettingsError(problems: ["\(path): is not UTF-8"])
            }
            return text
        } catch let error as SettingsError {
            throw error
        } catch {
            throw SettingsError(problems: ["\(path): cannot be read: \(error.localizedDescription)"])
        }
    }

    /// Reads the file. Problems are added to `problems`, and the parts with problems are left out.
    init(name: String, text: String, settings: [any AnySetting], problems: inout [String]) {
        self.name = name
        var walker = Walker(yaml: LocatedYAML(name: name))
        defer { problems += walker.problems }
        // A file that has only comments is empty.
        guard let root = walker.yaml.document(text), root.scalar?.string.isEmpty != true else { return }
        let keys = Set(settings.map(\.fileKey))
        walker.eachMember(of: root, in: "", known: keys.union(FileSection.names)) { walker, key, value in
            switch FileSection(rawValue: key) {
            case .queues: queues = walker.queues(value)
            case .commands: commands = walker.commands(value)
            case .auth:
                walker.eachKey(AuthKey.self, of: value, in: "auth") { walker, key, value, _ in
                    switch key {
                    case .certificates: certificates = walker.certificates(value)
                    }
                }
            case nil:
                if let text = walker.scalar(value, key) {
                    scalars[key] = Scalar(text: text, line: value.mark?.line ?? 0)
                }
            }
        }
    }

    /// Reads the parts of the file, and collects their problems.
    private struct Walker {
        var yaml: LocatedYAML
        var problems: [String] { yaml.problems }

        mutating func report(_ node: Node, _ path: String, _ problem: String) {
            yaml.report(node, path.isEmpty ? problem : "\(path): \(problem)")
        }

        /// Calls `body` for each member. If `known` is nil, any key is accepted. `path` ends with a dot, or is
        /// empty.
        mutating func eachMember(
            of node: Node, in path: String, known: Set<String>?,
            _ body: (inout Walker, String, Node) -> Void
        ) {
            let problem = (path.isEmpty ? "" : "\(path.dropLast()): ") + "must be a mapping of keys to values"
            let members = yaml.members(of: node, known: known, notMapping: problem) { key in
                "unknown key '\(path)\(key.cut(toBytes: 200))'\(Suggestion.text(for: key, among: known ?? []))"
            }
            for member in members ?? [] { body(&self, member.key, member.value) }
        }

        /// Calls `body` for each member, with its key and path.
        mutating func eachKey<Key: FileKey>(
            _: Key.Type, of node: Node, in path: String, _ body: (inout Walker, Key, Node, String) -> Void
        ) {
            eachMember(of: node, in: path + ".", known: Key.names) { walker, name, value in
                if let key = Key(rawValue: name) { body(&walker, key, value, "\(path).\(name)") }
            }
        }

        mutating func scalar(_ node: Node, _ path: String) -> String? {
            guard let scalar = node.scalar else {
                report(node, path, "must be a single value")
                return nil
            }
            return scalar.string
        }

        mutating func value<Value>(_ node: Node, _ path: String, _ kind: SettingKind<Value>) -> Value? {
            guard let text = scalar(node, path) else { return nil }
            if let value = kind.parse(text) { return value }
            report(node, path, "'\(text.cut(toBytes: 200))' is invalid: must be \(kind.accepted)")
            return nil
        }

        mutating func queues(_ node: Node) -> [String: QueueSettings] {
            var queues: [String: QueueSettings] = [:]
            eachMember(of: node, in: "queues.", known: nil) { walker, queue, value in
                if SettingKind.name(bytesMax: JobLimits.queueBytesMax).parse(queue) == nil {
                    walker.report(
                        value, "queues", "'\(queue.cut(toBytes: 200))' is not a valid name of a queue")
                }
                walker.eachKey(QueueKey.self, of: value, in: "queues.\(queue)") { walker, key, value, path in
                    switch key {
                    case .userLimit:
                        queues[queue] = QueueSettings(
                            userLimit: walker.value(value, path, .integer(0...JobLimits.userLimitMax)))
                    }
                }
            }
            return queues
        }

        mutating func commands(_ node: Node) -> [CommandDefinition] {
            guard let sequence = node.sequence else {
                report(node, "commands", "must be a list")
                return []
            }
            var commands: [CommandDefinition] = []
            for (index, entry) in sequence.enumerated() {
                guard let command = command(entry, "commands[\(index)]") else { continue }
                if commands.contains(where: { $0.definition.kind == command.definition.kind }) {
                    report(entry, "commands[\(index)].kind", "'\(command.definition.kind)' is given twice")
                }
                commands.append(command)
            }
            return commands
        }

        /// Reads a command. Nil if something required is missing or wrong, which has been reported.
        private mutating func command(_ node: Node, _ path: String) -> CommandDefinition? {
            var kind: String?
            var words: [String]?
            var timeout: Duration?
            var softTimeout: Duration?
            var onInterruption: Interruption?
            var workingDirectory: String?
            var environment: [String: String] = [:]
            var environmentFrom: [String] = []
            var user: String?
            var group: String?
            let timeouts = SettingKind.duration(JobLimits.timeoutMin...JobLimits.timeoutMax)
            let before = yaml.problemCount
            eachKey(CommandKey.self, of: node, in: path) { walker, key, value, path in
                switch key {
                case .kind: kind = walker.value(value, path, .name(bytesMax: JobLimits.kindBytesMax))
                case .command: words = walker.words(value, path)
                case .timeout: timeout = walker.value(value, path, timeouts)
                case .softTimeout: softTimeout = walker.value(value, path, timeouts)
                case .onInterruption: onInterruption = walker.value(value, path, .choice)
                case .workingDirectory: workingDirectory = walker.value(value, path, .text("FOLDER"))
                case .environment: environment = walker.environment(value, path)
                case .environmentFrom: environmentFrom = walker.variables(value, path)
                case .user: user = walker.value(value, path, .text("NAME", bytesMax: 256))
                case .group: group = walker.value(value, path, .text("NAME", bytesMax: 256))
                }
            }
            guard let kind, let words, let timeout else {
                // A value that is present but wrong has been reported already.
                if yaml.problemCount == before {
                    report(node, path, "needs \(CommandKey.required)")
                }
                return nil
            }
            if let softTimeout, softTimeout >= timeout {
                report(node, path + ".soft_timeout", "is not less than timeout")
            }
            if group != nil, user == nil { report(node, path + ".group", "requires user") }
            if user != nil {
                // The program that changes the user gets the same environment, while it still has the server's rights.
                let steering = (environment.keys + environmentFrom).filter(Self.steersPrograms).sorted()
                for name in steering {
                    report(
                        node, path,
                        "'\(name)' cannot be set for a command with a user: set it in the command itself, as in "
                            + "command: [env, \(name)=…, …]")
                }
            }
            return CommandDefinition(
                KindDefinition(
                    kind: kind, timeout: timeout, softTimeout: softTimeout,
                    onInterruption: onInterruption ?? .retry),
                command: words, workingDirectory: workingDirectory, environment: environment,
                environmentFrom: environmentFrom, user: user, group: group)
        }

        /// Whether a variable names code or files that the system's libraries load into any program. The list
        /// follows the variables that glibc removes from the environment of set-user-ID programs (ld.so(8)).
        private static func steersPrograms(_ variable: String) -> Bool {
            variable.hasPrefix("LD_")
                || [
                    "GCONV_PATH", "GLIBC_TUNABLES", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "MALLOC_TRACE",
                    "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS",
                ].contains(variable)
        }

        mutating func certificates(_ node: Node) -> [CertificateRule] {
            guard let sequence = node.sequence else {
                report(node, "auth.certificates", "must be a list")
                return []
            }
            return sequence.enumerated().compactMap { index, entry in
                certificate(entry, "auth.certificates[\(index)]")
            }
        }

        /// Reads a rule for certificates. Nil if something required is missing or wrong, which has been reported.
        private mutating func certificate(_ node: Node, _ path: String) -> CertificateRule? {
            var pattern: SubjectAlternativeName.Pattern?
            var name: String?
            var scopes: Set<Scope> = []
            var users = UserGrant.itself
            let before = yaml.problemCount
            eachKey(CertificateKey.self, of: node, in: path) { walker, key, value, path in
                switch key {
                case .san: pattern = walker.value(value, path, .subjectAlternativeName)
                case .name: name = walker.value(value, path, .principal)
                case .scopes:
                    let names = Scope.allCases.map(\.rawValue).joined(separator: ", ")
                    scopes = Set(walker.texts(value, path).compactMap(Scope.init(rawValue:)))
                    if scopes.count != value.sequence?.count {
                        walker.report(value, path, "must be a list of some of \(names)")
                    }
                case .users:
                    users =
                        value.scalar?.string == "all"
                        ? .all : .only(Set(walker.users(value, path).map(ExactText.init(_:))))
                }
            }
            guard let pattern, !scopes.isEmpty else {
                if yaml.problemCount == before { report(node, path, "needs \(CertificateKey.required)") }
                return nil
            }
            return CertificateRule(pattern: pattern, name: name, scopes: scopes, users: users)
        }

        /// Reads a list of texts, which may be empty.
        private mutating func texts(_ node: Node, _ path: String) -> [String] {
            let texts = node.sequence?.compactMap { $0.scalar?.string } ?? []
            if node.sequence?.count != texts.count { report(node, path, "must be a list of texts") }
            return texts
        }

        private mutating func users(_ node: Node, _ path: String) -> [String] {
            let kind = SettingKind<String>.principal
            let users = texts(node, path)
            if users.contains(where: { kind.parse($0) == nil }) {
                report(node, path, "must be all, or a list of users, each \(kind.accepted)")
            }
            return users
        }

        private mutating func words(_ node: Node, _ path: String) -> [String]? {
            let problem =
                "must be a list of the executable and its arguments, as in [\"./speak\", \"--fast\"]"
            guard let sequence = node.sequence, !sequence.isEmpty else {
                report(node, path, problem)
                return nil
            }
            let words = sequence.compactMap { $0.scalar?.string }
            guard words.count == sequence.count, words.first?.isEmpty == false,
                !words.contains(where: { $0.utf8.contains(0) })
            else {
                report(node, path, problem)
                return nil
            }
            return words
        }

        private mutating func environment(_ node: Node, _ path: String) -> [String: String] {
            var environment: [String: String] = [:]
            eachMember(of: node, in: path + ".", known: nil) { walker, key, value in
                guard Self.isVariable(key) else {
                    return walker.report(
                        value, path, "'\(key.cut(toBytes: 200))' cannot be set: \(Self.variableRule)")
                }
                guard let text = walker.scalar(value, "\(path).\(key)") else { return }
                if text.utf8.contains(0) { walker.report(value, "\(path).\(key)", "has a NUL") }
                environment[key] = text
            }
            return environment
        }

        /// Reads the names of variables of the server.
        private mutating func variables(_ node: Node, _ path: String) -> [String] {
            let names = texts(node, path)
            for name in names where !Self.isVariable(name) {
                report(
                    node, path, "'\(name.cut(toBytes: 200))' cannot be passed on: \(Self.variableRule)")
            }
            return names
        }

        private static let variableRule =
            "a name must not be empty, begin with a digit or SIGNALBOX_, or contain '='"

        /// Whether a command may inherit a variable with this name. Those that begin with `SIGNALBOX_` are the
        /// server's settings, among them the database's password, or the facts of a job.
        private static func isVariable(_ name: String) -> Bool {
            guard let first = name.first, !("0"..."9").contains(first) else { return false }
            return !name.hasPrefix("SIGNALBOX_")
                && name.utf8.allSatisfy { $0 != UInt8(ascii: "=") && $0 != 0 }
        }
    }
}

extension SettingKind where Value == String {
    /// The name of a principal or a user.
    static var principal: Self {
        Self(
            placeholder: "NAME",
            accepted: PrincipalName.rule,
            parse: { PrincipalName.isValid($0) ? $0 : nil },
            show: { $0 })
    }

    /// The name of a kind or of a queue.
    static func name(bytesMax: Int) -> Self {
        Self(
            placeholder: "NAME",
            accepted: "1 to \(bytesMax) characters of a–z, A–Z, 0–9, '.', '_', '-' and '/'",
            parse: { text in
                let isName =
                    (1...bytesMax).contains(text.utf8.count)
                    && text.utf8.allSatisfy(FieldCheck.isNameByte)
                return isName ? text : nil
            },
            show: { $0 })
    }
}
