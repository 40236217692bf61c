public import Logging

extension SignalboxClient {
    /// Where the server is, and how to call it.
    public struct Configuration: Sendable {
        /// The name or address of the server.
        public var host: String
        /// The server's port.
        public var port: Int
        /// Nil: the connection is not encrypted.
        public var tls: TLS?
        /// The bearer token that is sent with each call. Nil: none is sent.
        public var token: Token?
        /// Allows sending a token without TLS to another machine, although it can be read on the network.
        public var isInsecure = false
        /// The time limit of one call, including connecting and retries. A watch has no such limit.
        public var timeout: Duration = .seconds(10)
        /// The retry policy for calls that failed with `unavailable` and are safe to repeat. Nil: no call is retried.
        public var retry: Retry? = Retry()
        /// A watch that has no message from the server for this long stops trying, and throws the last error.
        public var watchPatience: Duration = .seconds(300)
        /// Logs connections, at the level `debug`.
        public var logger = Logger(label: "signalbox.client") { _ in SwiftLogNoOpLogHandler() }

        /// A server on this machine, unless `host` says otherwise.
        public init(host: String = "127.0.0.1", port: Int = 7600) {
            self.host = host
            self.port = port
        }
    }

    /// The files for encryption, in PEM. They are read at each connection.
    public struct TLS: Sendable, Hashable {
        /// The authorities to trust. Nil: those of the system.
        public var authorityFile: String?
        /// The client's certificate with its chain, for a server that asks for one. With `keyFile`.
        public var certificateFile: String?
        /// The certificate's private key.
        public var keyFile: String?
        /// The name that the server's certificate must have. Nil: the host that is connected to.
        public var serverName: String?

        /// TLS with the authorities of the system.
        public init(authorityFile: String? = nil) {
            self.authorityFile = authorityFile
        }
    }

    /// A bearer token, or a function that gives one for each call. No description shows it.
    public struct Token: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
        enum Source: Sendable {
            case text(String)
            case function(@Sendable () async throws -> String)
        }

        let source: Source

        /// A token that does not change.
        public init(_ text: String) {
            source = .text(text)
        }

        /// A token for each call and each connection of a watch: for those that expire. What `provide` throws ends the
        /// call.
        public init(provide: @escaping @Sendable () async throws -> String) {
            source = .function(provide)
        }

        /// The name of the type, without the token.
        public var description: String { "Token" }
        /// The name of the type, without the token.
        public var debugDescription: String { "Token" }
        /// A mirror without members, so that the token is not shown.
        public var customMirror: Mirror { Mirror(self, children: [:]) }
    }

    /// Delays between tries. They double, and each is drawn between half and all of its nominal length. A delay that the
    /// server asks for, up to 1 minute, is respected.
    public struct Retry: Sendable, Hashable {
        /// The nominal length of the first delay. Positive.
        public var initialDelay: Duration
        /// The longest delay of its own.
        public var maxDelay: Duration

        /// Delays from `initialDelay` to `maxDelay`.
        public init(initialDelay: Duration = .milliseconds(100), maxDelay: Duration = .seconds(5)) {
            self.initialDelay = initialDelay
            self.maxDelay = maxDelay
        }
    }
}
