import GRPC
import Settings

/// The settings of a server that a program embeds. `signalbox serve --help` says more about each.
///
/// A setting that is nil is taken from `configurationFile`, or else has its default; the environment is not read.
/// The values are checked when the server is made, as flags are. Durations are cut to whole milliseconds.
public struct SignalboxConfiguration: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
    // MARK: Listening

    /// The address to listen on.
    public var host = "127.0.0.1"
    /// The port to listen on; 0: any free one.
    public var port = 7600
    /// Whether the server may listen without TLS, or without authentication, on an address that other machines
    /// can reach.
    public var isInsecure = false
    /// The PEM file with the server's certificate and its chain. It needs `tlsKey`.
    public var tlsCertificate: String?
    /// The PEM file with the certificate's private key.
    public var tlsKey: String?
    /// The PEM file with the authorities whose client certificates are accepted. If it is set, every client needs
    /// one.
    public var tlsClientCA: String?

    // MARK: Storage

    /// The Postgres to use, as in `postgresql://user@host/name?sslmode=verify-full`. Nil: the server runs an
    /// embedded one.
    public var databaseURL: String?
    /// The directory for the data of the embedded Postgres.
    public var stateDirectory: String?
    /// The number of connections to Postgres, 1 to 100.
    public var databaseConnections: Int?
    /// The time for which finished jobs are kept, 1 minute to 10 years.
    public var retention: Duration?
    /// The time for which the audit is kept, 1 minute to 10 years.
    public var auditRetention: Duration?

    // MARK: The node

    /// The number of jobs that this node runs at once, 0 to 10,000. 0: it only serves the API.
    public var concurrency: Int?
    /// The name of this node, unique among live nodes.
    public var nodeName: String?
    /// The grace time: how long a cancelled run, or the runs of a server that shuts down, may take to end, up to
    /// 10 minutes.
    public var grace: Duration?
    /// The time for which a lease is valid without renewal, 5 to 60 seconds.
    public var lease: Duration?
    /// The interval at which the node looks for work without a notification, 50 milliseconds to 1 minute.
    public var pollInterval: Duration?
    /// Whether the node also handles the kinds for tests, such as `test.echo`.
    public var handlesTestKinds = false

    // MARK: Limits of users

    /// The number of jobs of one user that may run at once in one queue, over all nodes.
    public var userLimit: Int?
    /// The number of jobs of one user that may wait, over all nodes.
    public var pendingJobsPerUserMax: Int?
    /// The bytes of payload that the waiting jobs of one user may have together, over all nodes.
    public var pendingPayloadBytesPerUserMax: Int?
    /// The number of jobs a second that may be enqueued for one user on this node.
    public var enqueuesPerSecondPerUserMax: Int?
    /// The number of watches of one user that may be open on this node.
    public var watchesPerUserMax: Int?

    // MARK: Limits of connections

    /// The number of threads that serve connections, 1 to 256.
    public var eventLoops: Int?
    /// The most connections open at once.
    public var connectionsMax: Int?
    /// The most connections open at once from one address.
    public var connectionsPerAddressMax: Int?
    /// The time after which a connection without a call is closed.
    public var idleTimeout: Duration?
    /// The time after which a silent client is sent a keepalive PING.
    public var keepaliveInterval: Duration?
    /// The time in which the client must acknowledge the PING.
    public var keepaliveTimeout: Duration?
    /// The age at which a connection is closed once its calls have ended.
    public var connectionAgeMax: Duration?
    /// The time that these calls may take.
    public var connectionAgeGrace: Duration?

    // MARK: Authentication

    /// The file with the hashes of the accepted bearer tokens.
    public var tokenFile: String?
    /// The rules for accepted JSON Web Tokens; nil: none are accepted.
    public var jwt: JWT?

    /// The rules for accepted JSON Web Tokens.
    public struct JWT: Sendable {
        /// The keys of the tokens' signatures, a JSON Web Key Set: a file, or an https address.
        public var keys: String
        /// The issuer that a token must name (`iss`).
        public var issuer: String
        /// The audience that a token must name (`aud`).
        public var audience: String
        /// The tolerated difference between the clocks of the issuer and of this machine, up to 1 minute.
        public var leeway: Duration?
        /// The claim with the users that a token is for.
        public var usersClaim: String?
        /// The type that a token must name (`typ` in its header).
        public var tokenType: String?

        /// Accepts tokens of one issuer for one audience.
        public init(keys: String, issuer: String, audience: String) {
            self.keys = keys
            self.issuer = issuer
            self.audience = audience
        }
    }

    // MARK: Settings file

    /// A YAML file in the format of `signalbox serve --config`, for settings that are nil here. Commands, limits
    /// of single queues and rules for client certificates can only be set there.
    public var configurationFile: String?

    /// The defaults of `signalbox serve`.
    public init() {}

    /// The name of the type only, because the address of the database may contain a password.
    public var description: String { "SignalboxConfiguration" }
    /// The name of the type only, because the address of the database may contain a password.
    public var debugDescription: String { description }

    /// The values as texts by the names of their settings, as flags would have them.
    var values: [String: String] {
        func text(_ number: Int?) -> String? { number.map { String($0) } }
        func text(_ duration: Duration?) -> String? { duration.map { DurationText.text($0) } }
        let values: [String: String?] = [
            "config": configurationFile,
            "listen": HostPort(host: host, port: port).description,
            "insecure": isInsecure ? "true" : nil,
            "tls-certificate": tlsCertificate, "tls-key": tlsKey, "tls-client-ca": tlsClientCA,
            "database-url": databaseURL, "state-dir": stateDirectory,
            "database-connections": text(databaseConnections),
            "retention": text(retention), "audit-retention": text(auditRetention),
            "concurrency": text(concurrency), "node-name": nodeName, "grace": text(grace),
            "lease": text(lease), "poll-interval": text(pollInterval),
            "test-kinds": handlesTestKinds ? "true" : nil,
            "user-limit": text(userLimit),
            "max-pending-per-user": text(pendingJobsPerUserMax),
            "max-pending-payload-per-user": text(pendingPayloadBytesPerUserMax),
            "enqueue-rate-per-user": text(enqueuesPerSecondPerUserMax),
            "max-watches-per-user": text(watchesPerUserMax),
            "event-loops": text(eventLoops), "max-connections": text(connectionsMax),
            "max-connections-per-address": text(connectionsPerAddressMax),
            "idle-timeout": text(idleTimeout), "keepalive-interval": text(keepaliveInterval),
            "keepalive-timeout": text(keepaliveTimeout), "max-connection-age": text(connectionAgeMax),
            "max-connection-age-grace": text(connectionAgeGrace),
            "auth-tokens": tokenFile, "auth-jwks": jwt?.keys, "auth-jwt-issuer": jwt?.issuer,
            "auth-jwt-audience": jwt?.audience, "auth-jwt-leeway": text(jwt?.leeway),
            "auth-jwt-users-claim": jwt?.usersClaim, "auth-jwt-type": jwt?.tokenType,
        ]
        return values.compactMapValues { $0 }
    }
}
