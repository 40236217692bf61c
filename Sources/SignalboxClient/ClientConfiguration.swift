public import Logging

extension SignalboxClient {
    /// Where the server is, and how to call it.
    public struct Configuration: Sendable {
        /// The name or address of the server.
        public var host: String
        /// The server's port.
        public var port: Int
        /// Nil: the connection is in the clear.
        public var tls: TLS?
        /// Shown to the server with each call. Nil: none.
        public var token: Token?
        /// Allows sending a token without TLS to another machine, although it can be read on the network.
        public var isInsecure = false
        /// The limit of one call, with connecting and tries again. A watch has no such limit.
        public var timeout: Duration = .seconds(10)
        /// The delays after which calls that are safe to repeat are made again after `unavailable`. Nil: they are not.
        public var retry: Retry? = Retry()
        /// A watch that has no message from the server for this long stops trying, and throws the last error.
        public var watchPatience: Duration = .seconds(300)
        /// Receives what happens to connections, at the level `debug`.
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

        /// The type alone.
        public var description: String { "Token" }
        /// The type alone.
        public var debugDescription: String { "Token" }
        /// Nothing.
        public var customMirror: Mirror { Mirror(self, children: [:]) }
    }

    /// Delays between tries. They double, and each is drawn between half and all of its nominal length; one that the server
    /// asks for (up to 1 minute) is kept to.
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
