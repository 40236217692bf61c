package import Logging
import Glibc
package import NIOCore
internal import NIOPosix
internal import NIOSSL

/// The settings of a client's connection, with its limits.
package struct ClientConfiguration: Sendable {
    package struct TLS: Sendable {
        /// PEM file of the certificates to trust; nil: the system's.
        package var rootsPath: String?
        /// PEM files, for a server that asks for a client's certificate.
        package var certificateChainPath: String?
        package var privateKeyPath: String?
        /// The name the server's certificate must have; nil: the host connected to.
        package var serverName: String?

        package init() {}
    }

    /// For connecting, TLS and the server's SETTINGS together.
    package var connectTimeout = Duration.seconds(10)
    /// The largest message accepted.
    package var messageBytesMax = 4 * 1024 * 1024
    package var headerListBytesMax = 16 * 1024
    /// A writer waits while this much is unsent on its stream.
    package var outboundBytesPerStream = 64 * 1024
    /// The flow-control window of a stream: what the server may send ahead of the reader.
    package var streamWindowBytes = 256 * 1024
    package var connectionWindowBytes = 1024 * 1024
    /// While calls are open, a keepalive PING is sent after this long without a byte from the server, and the connection is
    /// closed after as long again.
    package var keepaliveInterval = Duration.seconds(30)
    /// Nil: plaintext, HTTP/2 with prior knowledge.
    package var tls: TLS?

    package init() {}
}

/// A connection to a gRPC server. Any number of calls may run on it at once.
///
/// It does not connect again by itself: when a call throws UNAVAILABLE, make a new client. All errors are
/// `Status`, or `CancellationError` when the calling task is cancelled, and of `connect` `TLSFileError`.
package final class Client: Sendable {
    private let channel: any Channel
    private let connection: NIOLoopBound<ClientConnection>

    private init(channel: any Channel, connection: NIOLoopBound<ClientConnection>) {
        self.channel = channel
        self.connection = connection
    }

    /// Connects and waits for the server's SETTINGS.
    ///
    /// - Throws: `Status` UNAVAILABLE when there is no server that speaks HTTP/2, INVALID_ARGUMENT when a TLS file
    ///   is wrong.
    package static func connect(
        host: String, port: Int, configuration: ClientConfiguration = ClientConfiguration(),
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton, logger: Logger
    ) async throws -> Client {
        let tls = try await makeTLS(configuration.tls)
        let serverName = configuration.tls?.serverName ?? host
        // exact: an address that the user of this client has given
        let authority = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        do {
            let bootstrap = ClientBootstrap(group: group)
                .connectTimeout(configuration.connectTimeout.timeAmount)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            let channel =
                try await bootstrap
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let connection = ClientConnection(
                            configuration: configuration, authority: authority, isEncrypted: tls != nil,
                            eventLoop: channel.eventLoop, logger: logger)
                        if let tls {
                            let isAddress = (try? SocketAddress(ipAddress: serverName, port: 0)) != nil
                            try channel.pipeline.syncOperations.addHandler(
                                NIOSSLClientHandler(
                                    context: tls, serverHostname: isAddress ? nil : serverName))
                        }
                        try channel.pipeline.syncOperations.addHandler(connection)
                    }
                }
                .connect(host: host, port: port)
                .get()
            // Each address of the name was tried with a connection of its own; this is the one that succeeded.
            let connection = try await channel.eventLoop.submit {
                () throws -> NIOLoopBound<ClientConnection> in
                // The handler is gone when the channel is closed already.
                guard
                    let connection = try? channel.pipeline.syncOperations.handler(type: ClientConnection.self)
                else { throw Status(.unavailable, "the connection was lost") }
                return NIOLoopBound(connection, eventLoop: channel.eventLoop)
            }.get()
            try await channel.eventLoop.flatSubmit { connection.value.whenReady() }.get()
            return Client(channel: channel, connection: connection)
        } catch let status as Status {
            throw status
        } catch {
            throw Status(.unavailable, "cannot connect to \(authority): \(reason(for: error))")
        }
    }

    /// Whether the connection takes new calls: it is neither closed nor going away.
    package var isOpen: Bool {
        get async {
            (try? await channel.eventLoop.submit { [connection] in connection.value.closeReason == nil }.get())
                ?? false
        }
    }

    /// The system's description of the error, where there is one.
    private static func reason(for error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            if let last = error.connectionErrors.last { return reason(for: last.error) }
            return error.dnsAError == nil && error.dnsAAAAError == nil
                ? "\(error)" : "the host name cannot be resolved"
        case let error as IOError:
            return String(cString: strerror(error.errnoCode))
        case let error as ChannelError:
            if case .connectTimeout = error { return "no answer in time" }
            return "\(error)"
        default:
            return "\(error)"
        }
    }

    private static func makeTLS(_ tls: ClientConfiguration.TLS?) async throws -> NIOSSLContext? {
        guard let tls else { return nil }
        // Reading files blocks, so it is not done on the cooperative pool.
        return try await NIOThreadPool.singleton.runIfActive {
            var settings = TLSConfiguration.makeClientConfiguration()
            settings.minimumTLSVersion = .tlsv12
            settings.applicationProtocols = ["h2"]
            if let path = tls.rootsPath {
                settings.trustRoots = .certificates(try TLSFile.certificates(path))
            }
            if let path = tls.certificateChainPath {
                settings.certificateChain = try TLSFile.certificates(path).map { .certificate($0) }
            }
            if let path = tls.privateKeyPath {
                settings.privateKey = .privateKey(try TLSFile.privateKey(path))
            }
            let paths = [tls.certificateChainPath, tls.privateKeyPath].compactMap(\.self)
            return try TLSFile.context(settings, from: paths)
        }
    }

    /// Sends one message and returns the one message of the response.
    package func unary(
        _ path: String, _ message: ByteBuffer, metadata: Metadata = Metadata(), timeout: Duration? = nil
    ) async throws -> ByteBuffer {
        let call = try await open(path, metadata: metadata, timeout: timeout, onlyMessage: message)
        var responses = call.responses.makeAsyncIterator()
        guard let response = try await responses.next() else {
            throw Status(.unimplemented, "the server sent no message")
        }
        guard try await responses.next() == nil else {
            throw Status(.unimplemented, "the server sent more than one message")
        }
        return response
    }

    /// Sends one message and returns the stream of responses. The status comes at its end and is thrown unless it is OK.
    package func serverStreaming(
        _ path: String, _ message: ByteBuffer, metadata: Metadata = Metadata(), timeout: Duration? = nil
    ) async throws -> ResponseStream {
        try await open(path, metadata: metadata, timeout: timeout, onlyMessage: message).responses
    }

    /// Begins a call with any number of messages in both directions.
    package func bidirectional(
        _ path: String, metadata: Metadata = Metadata(), timeout: Duration? = nil
    ) async throws -> ClientCall {
        try await open(path, metadata: metadata, timeout: timeout, onlyMessage: nil)
    }

    private func open(
        _ path: String, metadata: Metadata, timeout: Duration?, onlyMessage: ByteBuffer?
    ) async throws -> ClientCall {
        try Task.checkCancellation()
        let stream = try await channel.eventLoop.submit { [connection] in
            let stream = try connection.value.open(path, metadata: metadata, timeout: timeout)
            if let onlyMessage {
                _ = stream.write(onlyMessage)
                stream.finish()
            }
            return NIOLoopBound(stream, eventLoop: connection.eventLoop)
        }.get()
        return ClientCall(stream: stream)
    }

    /// Closes the connection. Calls that run throw UNAVAILABLE.
    package func close() async {
        channel.eventLoop.execute { [connection] in connection.value.close() }
        // A close future never fails.
        try? await channel.closeFuture.get()
    }
}
