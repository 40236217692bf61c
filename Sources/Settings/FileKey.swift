/// The keys of a mapping in the file that are no settings by themselves. What the file may contain, how it is read and
/// the help about it follow from them.
protocol FileKey: CaseIterable, RawRepresentable<String>, Hashable {
    /// The form of the value for the help; empty if the name says enough.
    var form: String { get }
    var isRequired: Bool { get }
}

extension FileKey {
    var isRequired: Bool { false }

    static var names: Set<String> { Set(allCases.map(\.rawValue)) }

    /// The names of the required keys, as in `kind, command and timeout`.
    static var required: String {
        let names = allCases.filter(\.isRequired).map(\.rawValue)
        return [names.dropLast().joined(separator: ", "), names.last ?? ""].filter { !$0.isEmpty }
            .joined(separator: " and ")
    }

    /// A mapping with the required keys for the help, as in `{san: NAME, …}`.
    static var example: String {
        let keys = allCases.filter(\.isRequired).map { "\($0.rawValue): \($0.form)" }
        return "{\(keys.joined(separator: ", ")), …}"
    }

    /// The keys that are not required for the help, as in `user (NAME), group`.
    static var further: String {
        allCases.filter { !$0.isRequired }.map {
            $0.form.isEmpty ? $0.rawValue : "\($0.rawValue) (\($0.form))"
        }
        .joined(separator: ", ")
    }
}

/// The parts of the file that are not single settings.
enum FileSection: String, FileKey {
    case queues, commands, auth

    var form: String {
        switch self {
        case .queues: "{NAME: {\(QueueKey.userLimit.rawValue): \(QueueKey.userLimit.form)}}"
        case .commands: "[\(CommandKey.example)]"
        case .auth: "{\(AuthKey.certificates.rawValue): [\(CertificateKey.example)]}"
        }
    }

    var help: String {
        switch self {
        case .queues: "The user limit of single queues."
        case .commands:
            "Executables that run the jobs of a kind. Further keys: \(CommandKey.further). "
                + "A server that runs as root needs user for each command."
        case .auth:
            "The permissions of a client that presents a certificate with this name. Further keys: \(CertificateKey.further)."
        }
    }
}

/// The keys of a queue.
enum QueueKey: String, FileKey {
    case userLimit = "user_limit"

    var form: String { "NUMBER" }
}

/// The keys of a command.
enum CommandKey: String, FileKey {
    case kind, command, timeout
    case softTimeout = "soft_timeout"
    case onInterruption = "on_interruption"
    case workingDirectory = "working_directory"
    case environment
    case environmentFrom = "environment_from"
    case user, group

    var isRequired: Bool { [.kind, .command, .timeout].contains(self) }

    var form: String {
        switch self {
        case .kind: "NAME"
        case .command: "[FILE, ARGUMENT, …]"
        case .timeout: "DURATION"
        case .softTimeout: "DURATION; sends SIGUSR1"
        case .onInterruption: "retry|fail"
        case .environment: "{NAME: TEXT}"
        case .environmentFrom: "[NAME, …]; variables of the server that the command gets too"
        case .workingDirectory, .user, .group: ""
        }
    }
}

/// The keys below `auth`, beside the settings whose names begin with `auth-`.
enum AuthKey: String, FileKey {
    case certificates

    var form: String { "" }
}

/// The keys of a rule for client certificates.
enum CertificateKey: String, FileKey {
    case san, scopes, name, users

    var isRequired: Bool { [.san, .scopes].contains(self) }

    var form: String {
        switch self {
        case .san: "dns:NAME|uri:URI|email:ADDRESS"
        case .scopes: "[SCOPE, …]"
        case .name: "for the audit"
        case .users: "all, or [NAME, …]; without it the user called name"
        }
    }
}
