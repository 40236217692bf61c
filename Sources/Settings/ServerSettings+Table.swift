package import Authentication
package import GRPC
package import JobModel

/// The settings of the server. Each is declared only here. Its flag, environment variable, key in the file, help,
/// validation, default and member of `ServerSettings` follow from the declaration. The parts of the server read the
/// value from `ServerSettings`.
package struct ServerSettingsTable: SettingsTable {
    package let listen = Setting(
        "listen", .hostPort, default: HostPort(host: "127.0.0.1", port: 7600),
        "The address to listen on. Port 0: any free port.")
    package let databaseURL = Setting(
        "database-url", .optionalText("URL"), default: nil,
        "The URL of the Postgres to use, as in postgresql://user@host/name?sslmode=verify-full. Unset: the server runs "
            + "one of its own. With a Postgres on another machine sslmode=verify-full is recommended, with "
            + "sslrootcert=FILE for the authority: libpq's default, prefer, tries encryption but does not "
            + "require it, and does not verify the server. Do not put a password in the flag, which "
            + "every user of the machine can read: use the variable, the settings file or a passfile.",
        isSecret: true)
    package let stateDirectory = Setting(
        "state-dir", .text("FOLDER"), default: \.stateDirectory,
        shownAs: "$STATE_DIRECTORY, else /var/lib/signalbox for root, else $XDG_STATE_HOME/signalbox, else "
            + "~/.local/state/signalbox",
        "The directory with the data of the embedded Postgres.")
    package let concurrency = Setting(
        "concurrency", .integer(0...10_000), default: { 8 * $0.cores }, shownAs: "8 × cores",
        "How many jobs this node runs at once. 0: it only serves the API.")
    package let nodeName = Setting(
        "node-name", .text("NAME", bytesMax: 256), default: { "\($0.hostName):\($0.processID)" },
        shownAs: "hostname:pid",
        "The name of this node, which callers with the scope admin see. It must be unique among live nodes.")
    package let testKinds = Setting(
        "test-kinds", .bool, default: false,
        "Handle the test kinds: test.echo, test.noop, test.sleep and test.fail.")
    package let userLimit = Setting(
        "user-limit", .integer(1...JobLimits.userLimitMax), default: JobLimits.userLimitDefault,
        "How many jobs of one user may run at once in one queue, across all nodes. Queues and users "
            + "can have their own.")
    package let grace = Setting(
        "grace", .duration(.zero ... .seconds(600)), default: .seconds(10),
        "How long runs may take to end after they are cancelled or the server begins to shut down.")
    package let retention = Setting(
        "retention", .duration(.seconds(60) ... .seconds(3650 * 86_400)), default: .seconds(7 * 86_400),
        "How long finished jobs are kept.")
    package let auditRetention = Setting(
        "audit-retention", .duration(.seconds(60) ... .seconds(3650 * 86_400)),
        default: .seconds(90 * 86_400), "How long audit entries are kept.")
    package let maxPendingPerUser = Setting(
        "max-pending-per-user", .optionalInteger(1...JobLimits.pendingQuotaMax), default: nil,
        "Maximum pending jobs of one user, across all nodes. Calls that exceed this limit or one of the "
            + "next three are refused with RESOURCE_EXHAUSTED.")
    package let maxPendingPayloadPerUser = Setting(
        "max-pending-payload-per-user", .optionalInteger(1...(1 << 40)), default: nil,
        "Maximum payload bytes of all pending jobs of one user, across all nodes. At most 100,000 jobs "
            + "are counted: a user with more jobs exceeds the limit too.")
    package let enqueueRatePerUser = Setting(
        "enqueue-rate-per-user", .optionalInteger(1...1_000_000), default: nil,
        "Maximum jobs per second enqueued for one user on this node; a burst may have as many.")
    package let maxWatchesPerUser = Setting(
        "max-watches-per-user", .optionalInteger(1...1_000_000), default: nil,
        "Maximum open watches of one user on this node. A watch of jobs counts against the owners of the "
            + "jobs, and a watch of a queue against the users to whom its caller is restricted.")
    package let lease = Setting(
        "lease", .duration(.seconds(5) ... .seconds(60)), default: .seconds(15),
        "How long the lease of a node lasts after each renewal. The runs of a node that dies are rescued "
            + "within this time and 2 s.")
    package let pollInterval = Setting(
        "poll-interval", .duration(.milliseconds(50) ... .seconds(60)), default: .seconds(1),
        "How often to poll the database for work that no notification announced.")
    package let logLevel = Setting(
        "log-level", SettingKind<LogLevel>.choice, default: .info, "The lowest level that is logged.")
    package let logFormat = Setting(
        "log-format", SettingKind<LogFormat>.choice, default: .text,
        "The format of log lines: text for people, or JSON.")
    package let eventLoops = Setting(
        "event-loops", .integer(1...256), default: \.cores, shownAs: "cores",
        "Threads that serve connections.")
    package let databaseConnections = Setting(
        "database-connections", .integer(1...100), default: 4, "Connections to Postgres in the pool.")
    package let insecure = Setting(
        "insecure", .bool, default: false,
        "Allow the server to listen without TLS and to require no credentials where other machines can "
            + "reach it, and to fetch auth-jwks over http from another machine. Without auth settings, "
            + "anyone who reaches the server may then do everything. Each start logs a warning.")
    package let authTokens = Setting(
        "auth-tokens", .optionalText("FILE"), default: nil,
        "File with the hashes of the accepted bearer tokens; see `signalbox token create`.")
    package let authJWKS = Setting(
        "auth-jwks", .optionalKeyLocation, default: nil,
        "File or URL of the JSON Web Key Set with the keys that sign JWTs. Requires auth-jwt-issuer and "
            + "auth-jwt-audience.",
        // A URL may contain a secret in its query.
        isSecret: true)
    package let authJWTIssuer = Setting(
        "auth-jwt-issuer", .optionalText("TEXT"), default: nil, "The issuer (iss) that a JWT must have.")
    package let authJWTAudience = Setting(
        "auth-jwt-audience", .optionalText("TEXT"), default: nil, "The audience (aud) that a JWT must have.")
    package let authJWTLeeway = Setting(
        "auth-jwt-leeway", .duration(JWTConfiguration.leewayRange), default: .seconds(30),
        "How far the clocks of a JWT's issuer and of this machine may differ.")
    package let authJWTUsersClaim = Setting(
        "auth-jwt-users-claim", .text("NAME", bytesMax: 256), default: "signalbox_users",
        "The claim of a JWT that names the users for whom its caller may act.")
    package let authJWTType = Setting(
        "auth-jwt-type", SettingKind<JWTConfiguration.TokenType>.choice, default: .any,
        "The typ that a JWT must have. any accepts none, JWT and at+jwt.")
    package let tlsCertificate = Setting(
        "tls-certificate", .optionalText("FILE"), default: nil,
        "PEM file with the server's certificate and its chain. Requires tls-key.")
    package let tlsKey = Setting(
        "tls-key", .optionalText("FILE"), default: nil, "PEM file with the certificate's private key.")
    package let tlsClientCA = Setting(
        "tls-client-ca", .optionalText("FILE"), default: nil,
        "PEM file with the certificate authorities of clients. When it is set, every client must present a certificate that one of them has signed."
    )
    package let maxConnections = Setting(
        "max-connections", .integer(1...1_000_000), default: 10_000, "Connections open at once.")
    package let maxConnectionsPerAddress = Setting(
        "max-connections-per-address", .integer(1...1_000_000), default: 5_000,
        "Connections open at once from one client address (IPv6: from one /64 network). All clients behind a proxy share one address."
    )
    package let idleTimeout = Setting(
        "idle-timeout", .duration(.seconds(1) ... .seconds(86_400)), default: .seconds(15 * 60),
        "Close a connection (with GOAWAY) that had no call for this long; before its first call, after 30 s at the latest."
    )
    package let keepaliveInterval = Setting(
        "keepalive-interval", .duration(.seconds(1) ... .seconds(86_400)), default: .seconds(60),
        "Send a keepalive ping to a client after this much inactivity.")
    package let keepaliveTimeout = Setting(
        "keepalive-timeout", .duration(.seconds(1) ... .seconds(3_600)), default: .seconds(20),
        "Close the connection if a keepalive ping is not acknowledged within this time.")
    package let maxConnectionAge = Setting(
        "max-connection-age", .optionalDuration(.seconds(1) ... .seconds(30 * 86_400)), default: nil,
        "Close a connection (with GOAWAY) at this age, ± 10 %, once its calls have ended, so that a load "
            + "balancer can distribute the clients again.")
    package let maxConnectionAgeGrace = Setting(
        "max-connection-age-grace", .optionalDuration(.seconds(1) ... .seconds(30 * 86_400)),
        default: nil,
        "How long the calls of a connection of that age may continue before they end with UNAVAILABLE.")
    package let config = Setting(
        "config", .optionalText("FILE"), default: nil,
        "A YAML file with any of these settings (its keys are written with _ instead of -), and with "
            + "queues and commands. The file cannot set it.")
}
