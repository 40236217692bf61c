import FoundationEssentials
import Glibc
package import JobModel

/// What defaults are made of.
package struct Machine: Sendable {
    package var cores: Int
    package var hostName: String
    package var processID: Int32
    package var isRoot: Bool
    /// `XDG_STATE_HOME` and `HOME`; empty where unset.
    package var stateHome: String
    package var home: String

    package init(
        cores: Int, hostName: String, processID: Int32, isRoot: Bool, stateHome: String, home: String
    ) {
        self.cores = cores
        self.hostName = hostName
        self.processID = processID
        self.isRoot = isRoot
        self.stateHome = stateHome
        self.home = home
    }

    /// This one.
    package static var current: Machine {
        let process = ProcessInfo.processInfo
        return Machine(
            cores: process.activeProcessorCount, hostName: process.hostName,
            processID: process.processIdentifier, isRoot: geteuid() == 0,
            stateHome: process.environment["XDG_STATE_HOME"] ?? "", home: process.environment["HOME"] ?? "")
    }

    /// By the XDG base directory specification; a folder of the system for root.
    var stateDirectory: String {
        if isRoot { return "/var/lib/signalbox" }
        // A relative path is invalid and to be ignored, says the specification.
        if stateHome.hasPrefix("/") { return stateHome + "/signalbox" }
        return (home.isEmpty ? "." : home) + "/.local/state/signalbox"
    }
}

package enum LogLevel: String, Sendable, Hashable, CaseIterable {
    case trace, debug, info, notice, warning, error, critical
}

package enum LogFormat: String, Sendable, Hashable, CaseIterable {
    case text, json
}

/// Of one queue, only in the file.
package struct QueueSettings: Sendable, Hashable {
    /// Nil: as for the other queues.
    package var userLimit: Int?

    package init(userLimit: Int?) {
        self.userLimit = userLimit
    }
}

/// A command that runs the jobs of a kind, only in the file.
package struct CommandSettings: Sendable, Hashable {
    package var kind: String
    /// The executable and its arguments. Never empty.
    package var command: [String]
    package var timeout: Duration
    /// Less than the timeout. The command gets SIGUSR1 then.
    package var softTimeout: Duration?
    package var onInterruption: Interruption
    package var workingDirectory: String?
    package var environment: [String: String]
    /// Names of variables of the server that the command gets too.
    package var environmentFrom: [String]
    /// Each a name or a number. A group needs a user. Nil: the server's user, which then is not root; the user's
    /// primary group.
    package var user: String?
    package var group: String?

    package init(
        kind: String, command: [String], timeout: Duration, softTimeout: Duration? = nil,
        onInterruption: Interruption = .retry, workingDirectory: String? = nil,
        environment: [String: String] = [:], environmentFrom: [String] = [], user: String? = nil,
        group: String? = nil
    ) {
        self.kind = kind
        self.command = command
        self.timeout = timeout
        self.softTimeout = softTimeout
        self.onInterruption = onInterruption
        self.workingDirectory = workingDirectory
        self.environment = environment
        self.environmentFrom = environmentFrom
        self.user = user
        self.group = group
    }
}

/// The settings of `signalbox serve`.
package struct ServerSettings: Sendable, Hashable {
    package var listen: HostPort
    /// Nil: a private Postgres. May carry a password: never logged.
    package var databaseURL: String?
    /// It was given as a flag, which everybody on the machine can read in the list of processes.
    package var databaseURLIsFlag: Bool
    package var stateDirectory: String
    package var concurrency: Int
    package var nodeName: String
    package var testKinds: Bool
    package var userLimit: Int
    package var grace: Duration
    package var retention: Duration
    package var auditRetention: Duration
    /// Of each user; nil: none. The rate and the watches are those of one node.
    package var maxPendingPerUser: Int?
    package var maxPendingPayloadPerUser: Int?
    package var enqueueRatePerUser: Int?
    package var maxWatchesPerUser: Int?
    package var lease: Duration
    package var pollInterval: Duration
    package var logLevel: LogLevel
    package var logFormat: LogFormat
    package var eventLoops: Int
    package var databaseConnections: Int
    package var insecure: Bool
    package var tlsCertificate: String?
    package var tlsKey: String?
    package var tlsClientCA: String?
    package var maxConnections: Int
    package var maxConnectionsPerAddress: Int
    package var idleTimeout: Duration
    package var keepaliveInterval: Duration
    package var keepaliveTimeout: Duration
    package var maxConnectionAge: Duration?
    package var maxConnectionAgeGrace: Duration?
    package var authentication: AuthenticationSettings
    /// The file they came from in part.
    package var configFile: String?
    package var queues: [String: QueueSettings]
    package var commands: [CommandSettings]
}

extension ServerSettings {
    /// Every setting of the server, once.
    enum Table {
        static let config = Setting(
            "config", .optionalText("FILE"), default: nil,
            "A YAML file with any of these settings (its keys are written with _ instead of -), and with "
                + "queues and commands. Not itself a key of the file.")
        static let listen = Setting(
            "listen", .hostPort, default: HostPort(host: "127.0.0.1", port: 7600),
            "Where to listen. Port 0: any free one.")
        static let databaseURL = Setting(
            "database-url", .optionalText("URL"), default: nil,
            "The Postgres to use, as in postgresql://user@host/name?sslmode=verify-full. Unset: the server runs "
                + "one of its own. With a Postgres on another machine sslmode=verify-full is recommended, with "
                + "sslrootcert=FILE for the authority: libpq's default, prefer, tries encryption but does not "
                + "require it, and does not verify the server. A password does not belong in the flag, which "
                + "every user of the machine can read, but in the variable, the file of settings or a passfile.",
            isSecret: true)
        static let stateDirectory = Setting(
            "state-dir", .text("FOLDER"), default: \.stateDirectory,
            shownAs: "$XDG_STATE_HOME/signalbox, else ~/.local/state/signalbox; /var/lib/signalbox for root",
            "Where the Postgres of its own keeps its data.")
        static let concurrency = Setting(
            "concurrency", .integer(0...10_000), default: { 8 * $0.cores }, shownAs: "8 × cores",
            "How many jobs this node runs at once. 0: it only serves the API.")
        static let nodeName = Setting(
            "node-name", .text("NAME", bytesMax: 256), default: { "\($0.hostName):\($0.processID)" },
            shownAs: "hostname:pid",
            "What this node is called, for callers with the scope admin. Unique among live nodes.")
        static let testKinds = Setting(
            "test-kinds", .bool, default: false,
            "Handle the kinds for trials: test.echo, test.noop, test.sleep and test.fail.")
        static let userLimit = Setting(
            "user-limit", .integer(1...JobLimits.userLimitMax), default: JobLimits.userLimitDefault,
            "How many jobs of one user may run at once in one queue, across all nodes. Queues and users "
                + "can have their own.")
        static let grace = Setting(
            "grace", .duration(.zero ... .seconds(600)), default: .seconds(10),
            "How long a cancelled run, and the runs of a server that shuts down, have to end.")
        static let retention = Setting(
            "retention", .duration(.seconds(60) ... .seconds(3650 * 86_400)), default: .seconds(7 * 86_400),
            "How long finished jobs are kept.")
        static let auditRetention = Setting(
            "audit-retention", .duration(.seconds(60) ... .seconds(3650 * 86_400)),
            default: .seconds(90 * 86_400), "How long it is kept who has changed what.")
        static let maxPendingPerUser = Setting(
            "max-pending-per-user", .optionalInteger(1...JobLimits.pendingQuotaMax), default: nil,
            "How many jobs of one user may wait, across all nodes. Over this and the next three, calls are "
                + "refused with RESOURCE_EXHAUSTED.")
        static let maxPendingPayloadPerUser = Setting(
            "max-pending-payload-per-user", .optionalInteger(1...(1 << 40)), default: nil,
            "How many bytes of payload the jobs of one user that wait may have together, across all nodes. "
                + "At most 100,000 of them are counted: who has more is over it too.")
        static let enqueueRatePerUser = Setting(
            "enqueue-rate-per-user", .optionalInteger(1...1_000_000), default: nil,
            "How many jobs a second may be enqueued for one user on this node; as many may come at once.")
        static let maxWatchesPerUser = Setting(
            "max-watches-per-user", .optionalInteger(1...1_000_000), default: nil,
            "How many watches of one user may be open on this node. One of jobs counts for each user whose "
                + "they are, one of a queue for the users that its caller is limited to.")
        static let lease = Setting(
            "lease", .duration(.seconds(5) ... .seconds(60)), default: .seconds(15),
            "For how long a run belongs to its node without renewal. A dead node's runs are rescued "
                + "within this and 2 s.")
        static let pollInterval = Setting(
            "poll-interval", .duration(.milliseconds(50) ... .seconds(60)), default: .seconds(1),
            "How often to look for work that nobody announced.")
        static let logLevel = Setting(
            "log-level", SettingKind<LogLevel>.choice, default: .info, "The least level that is logged.")
        static let logFormat = Setting(
            "log-format", SettingKind<LogFormat>.choice, default: .text, "Lines for people, or JSON.")
        static let eventLoops = Setting(
            "event-loops", .integer(1...256), default: \.cores, shownAs: "cores",
            "Threads that serve connections.")
        static let databaseConnections = Setting(
            "database-connections", .integer(1...100), default: 4, "Connections to Postgres, in the pool.")
        static let insecure = Setting(
            "insecure", .bool, default: false,
            "Allow to listen without TLS, and to serve everybody, where other machines can reach it, and to "
                + "fetch auth-jwks over http from another machine. Without auth settings anybody who reaches "
                + "the server may do everything then. Logged as a warning at every start.")
        static let authTokens = Setting(
            "auth-tokens", .optionalText("FILE"), default: nil,
            "File with the hashes of the bearer tokens that are good; see `signalbox token create`.")
        static let authJWKS = Setting(
            "auth-jwks", .optionalText("FILE|URL"), default: nil,
            "Where the keys are (a JSON Web Key Set) with which JWTs must be signed. With auth-jwt-issuer and "
                + "auth-jwt-audience.")
        static let authJWTIssuer = Setting(
            "auth-jwt-issuer", .optionalText("TEXT"), default: nil, "Who must have made a JWT (iss).")
        static let authJWTAudience = Setting(
            "auth-jwt-audience", .optionalText("TEXT"), default: nil, "For whom a JWT must be made (aud).")
        static let authJWTLeeway = Setting(
            "auth-jwt-leeway", .duration(.zero ... .seconds(60)), default: .seconds(30),
            "How far the clocks of a JWT's issuer and this machine may be apart.")
        static let authJWTUsersClaim = Setting(
            "auth-jwt-users-claim", .text("NAME", bytesMax: 256), default: "signalbox_users",
            "The claim of a JWT with the users that it is for.")
        static let authJWTType = Setting(
            "auth-jwt-type", SettingKind<JWTType>.choice, default: .any,
            "What typ a JWT must have: any is none, JWT or at+jwt.")
        static let tlsCertificate = Setting(
            "tls-certificate", .optionalText("FILE"), default: nil,
            "PEM file with the server's certificate and its chain. With tls-key.")
        static let tlsKey = Setting(
            "tls-key", .optionalText("FILE"), default: nil, "PEM file with the certificate's private key.")
        static let tlsClientCA = Setting(
            "tls-client-ca", .optionalText("FILE"), default: nil,
            "PEM file with the authorities whose client certificates are let in; no others are then.")
        static let maxConnections = Setting(
            "max-connections", .integer(1...1_000_000), default: 10_000, "Connections open at once.")
        static let maxConnectionsPerAddress = Setting(
            "max-connections-per-address", .integer(1...1_000_000), default: 5_000,
            "Of them, from one address (of IPv6: from one network of 64 bits). A proxy is one address.")
        static let idleTimeout = Setting(
            "idle-timeout", .duration(.seconds(1) ... .seconds(86_400)), default: .seconds(15 * 60),
            "A connection without a call for this long, or 30 s before its first, is asked to go, and closed."
        )
        static let keepaliveInterval = Setting(
            "keepalive-interval", .duration(.seconds(1) ... .seconds(86_400)), default: .seconds(60),
            "A client that has been silent for this long is asked for a sign of life.")
        static let keepaliveTimeout = Setting(
            "keepalive-timeout", .duration(.seconds(1) ... .seconds(3_600)), default: .seconds(20),
            "How long it has to answer.")
        static let maxConnectionAge = Setting(
            "max-connection-age", .optionalDuration(.seconds(1) ... .seconds(30 * 86_400)), default: nil,
            "A connection older than this, give or take a tenth, is asked to go once its calls are over: "
                + "behind a balancer, clients spread anew.")
        static let maxConnectionAgeGrace = Setting(
            "max-connection-age-grace", .optionalDuration(.seconds(1) ... .seconds(30 * 86_400)),
            default: nil,
            "How long those calls may take; they end with UNAVAILABLE then.")

        static let all: [any AnySetting] = [
            listen, databaseURL, stateDirectory, concurrency, userLimit, maxPendingPerUser,
            maxPendingPayloadPerUser, enqueueRatePerUser, maxWatchesPerUser, nodeName, testKinds, grace,
            retention, auditRetention, lease, pollInterval, logLevel, logFormat, eventLoops,
            databaseConnections,
            maxConnections, maxConnectionsPerAddress, idleTimeout, keepaliveInterval, keepaliveTimeout,
            maxConnectionAge, maxConnectionAgeGrace, tlsCertificate, tlsKey, tlsClientCA, authTokens,
            authJWKS, authJWTIssuer, authJWTAudience, authJWTLeeway, authJWTUsersClaim,
            authJWTType, insecure, config,
        ]
    }

    /// The text about the settings for `signalbox serve --help`.
    package static var help: String {
        """
        A setting is taken from its flag, else from the environment, else from the file, else it has its
        default.
        Durations are written as in 500ms, 15s, 10m, 2h or 7d.

        \(SettingsHelp.text(Table.all))

        Only in the file:
          queues: {NAME: {user_limit: NUMBER}}
                The user limit of single queues.
          commands: [{kind: NAME, command: [FILE, ARGUMENT, …], timeout: DURATION, …}]
                Executables that run the jobs of a kind. Further keys: soft_timeout (DURATION; sends
                SIGUSR1), on_interruption (retry|fail), working_directory, environment ({NAME: TEXT}),
                environment_from ([NAME, …]; variables of the server that the command gets too), user,
                group. A server that runs as root needs user for each command.
          auth: {certificates: [{san: dns:NAME|uri:URI|email:ADDRESS, scopes: [SCOPE, …], …}]}
                What a client may do that shows a certificate with this name. Further keys: name (for the
                audit), users (all, or [NAME, …]; without it the user called name).
        """
    }

    package static func asksForHelp(_ arguments: [String]) -> Bool {
        arguments.contains("--help") || arguments.contains("-h")
    }

    /// - Parameters:
    ///   - arguments: the flags after the name of the command.
    ///   - readFile: the text of the file at a path.
    package static func resolve(
        arguments: [String], environment: [String: String], machine: Machine = .current,
        readFile: (String) throws(SettingsError) -> String = { path throws(SettingsError) in
            try SettingsFile.read(path)
        }
    ) throws(SettingsError) -> ServerSettings {
        var problems: [String] = []
        let flags = FlagReader.read(arguments, for: Table.all, problems: &problems)
        var reader = SettingsReader(
            flags: flags, environment: environment, file: nil, machine: machine, problems: problems)
        let configFile = reader.value(Table.config)
        if let configFile {
            do {
                let file = SettingsFile(
                    name: configFile, text: try readFile(configFile),
                    settings: Table.all.filter { $0.name != Table.config.name }, problems: &reader.problems)
                reader = SettingsReader(
                    flags: flags, environment: environment, file: file, machine: machine,
                    problems: reader.problems)
            } catch {
                reader.problems += error.problems
            }
        }
        let settings = ServerSettings(&reader, configFile: configFile)
        settings.check(machine, into: &reader.problems)
        guard reader.problems.isEmpty else { throw SettingsError(problems: reader.problems) }
        return settings
    }

    private init(_ reader: inout SettingsReader, configFile: String?) {
        self.init(
            listen: reader.value(Table.listen), databaseURL: reader.value(Table.databaseURL),
            databaseURLIsFlag: reader.flags[Table.databaseURL.name] != nil,
            stateDirectory: reader.value(Table.stateDirectory),
            concurrency: reader.value(Table.concurrency), nodeName: reader.value(Table.nodeName),
            testKinds: reader.value(Table.testKinds), userLimit: reader.value(Table.userLimit),
            grace: reader.value(Table.grace), retention: reader.value(Table.retention),
            auditRetention: reader.value(Table.auditRetention),
            maxPendingPerUser: reader.value(Table.maxPendingPerUser),
            maxPendingPayloadPerUser: reader.value(Table.maxPendingPayloadPerUser),
            enqueueRatePerUser: reader.value(Table.enqueueRatePerUser),
            maxWatchesPerUser: reader.value(Table.maxWatchesPerUser),
            lease: reader.value(Table.lease), pollInterval: reader.value(Table.pollInterval),
            logLevel: reader.value(Table.logLevel), logFormat: reader.value(Table.logFormat),
            eventLoops: reader.value(Table.eventLoops),
            databaseConnections: reader.value(Table.databaseConnections),
            insecure: reader.value(Table.insecure), tlsCertificate: reader.value(Table.tlsCertificate),
            tlsKey: reader.value(Table.tlsKey), tlsClientCA: reader.value(Table.tlsClientCA),
            maxConnections: reader.value(Table.maxConnections),
            maxConnectionsPerAddress: reader.value(Table.maxConnectionsPerAddress),
            idleTimeout: reader.value(Table.idleTimeout),
            keepaliveInterval: reader.value(Table.keepaliveInterval),
            keepaliveTimeout: reader.value(Table.keepaliveTimeout),
            maxConnectionAge: reader.value(Table.maxConnectionAge),
            maxConnectionAgeGrace: reader.value(Table.maxConnectionAgeGrace),
            authentication: Self.authentication(&reader), configFile: configFile,
            queues: reader.file?.queues ?? [:], commands: reader.file?.commands ?? [])
    }

    private static func authentication(_ reader: inout SettingsReader) -> AuthenticationSettings {
        var settings = AuthenticationSettings()
        settings.tokens = reader.value(Table.authTokens)
        settings.keySet = reader.value(Table.authJWKS)
        settings.issuer = reader.value(Table.authJWTIssuer)
        settings.audience = reader.value(Table.authJWTAudience)
        settings.leeway = reader.value(Table.authJWTLeeway)
        settings.usersClaim = reader.value(Table.authJWTUsersClaim)
        settings.tokenType = reader.value(Table.authJWTType)
        settings.certificates = reader.file?.certificates ?? []
        return settings
    }

    /// What no setting tells alone.
    private func check(_ machine: Machine, into problems: inout [String]) {
        for command in commands where machine.isRoot && command.user == nil {
            problems.append(
                "commands: '\(command.kind)' has no user, and this server runs as root: give the user to run it as "
                    + "(user: NAME), or let it be root (user: root)")
        }
        if (tlsCertificate == nil) != (tlsKey == nil) {
            problems.append("tls-certificate and tls-key are needed together")
        }
        if tlsClientCA != nil, tlsCertificate == nil {
            problems.append("tls-client-ca needs tls-certificate and tls-key")
        }
        let jwt = [authentication.keySet, authentication.issuer, authentication.audience]
        if jwt.contains(where: { $0 == nil }) && jwt.contains(where: { $0 != nil }) {
            problems.append("auth-jwks, auth-jwt-issuer and auth-jwt-audience are needed together")
        }
        if authentication.fetchesKeysInTheClear, !insecure {
            problems.append("auth-jwks: whoever is in between could answer: give https, or insecure")
        }
        if !authentication.certificates.isEmpty, tlsClientCA == nil {
            problems.append("auth.certificates needs tls-client-ca")
        }
        guard !listen.isLoopback, !insecure else { return }
        let reached = "listen: other machines can reach \(listen)"
        if tlsCertificate == nil {
            problems.append(
                "\(reached), and there is no TLS: give a certificate with --tls-certificate FILE and --tls-key "
                    + "FILE (SIGNALBOX_TLS_CERTIFICATE, SIGNALBOX_TLS_KEY), or --insecure (SIGNALBOX_INSECURE=true) "
                    + "to send everything in the clear")
        }
        if !authentication.isOn {
            problems.append(
                "\(reached), and nobody is asked who calls: give tokens with --auth-tokens FILE "
                    + "(SIGNALBOX_AUTH_TOKENS; `signalbox token create` makes them), or auth-jwks, or rules for "
                    + "client certificates in the file, or --insecure (SIGNALBOX_INSECURE=true) to let everybody "
                    + "do everything")
        }
    }
}
