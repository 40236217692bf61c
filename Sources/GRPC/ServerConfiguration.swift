internal import NIOCore

/// Where a server listens, and its limits. All of them hold for this process.
package struct ServerConfiguration: Sendable {
    package struct Address: Sendable, Equatable {
        /// A name or an address; IPv6 without brackets.
        package var host: String
        /// 0 takes any free port.
        package var port: Int

        package init(host: String, port: Int) {
            self.host = host
            self.port = port
        }
    }

    /// Files in PEM form. Clients must offer "h2" by ALPN; TLS 1.2 is the least.
    package struct TLS: Sendable {
        package var certificateChainPath: String
        package var privateKeyPath: String
        /// Set: a client must present a certificate signed by one of these.
        package var clientCAPath: String?

        package init(certificateChainPath: String, privateKeyPath: String, clientCAPath: String? = nil) {
            self.certificateChainPath = certificateChainPath
            self.privateKeyPath = privateKeyPath
            self.clientCAPath = clientCAPath
        }
    }

    package var addresses = [Address(host: "127.0.0.1", port: 50051)]
    package var eventLoopThreads = System.coreCount
    /// Connections at once; when it is reached the server accepts no more until one closes. Half of them may be
    /// unadmitted (`ConnectionPlaces`).
    package var connectionsMax = 10_000
    /// Of them, from one address, or one network of IPv6 (64 bits); more are closed at once. Half of them may be
    /// unadmitted.
    package var connectionsPerAddressMax = 5_000
    /// Open calls of those who need no credentials (`Admitted.isAnonymous`), on all unadmitted connections together.
    package var anonymousCallsMax = 2_000
    /// The same from one address, or one network of IPv6.
    package var anonymousCallsPerAddressMax = 500
    /// The same on one connection.
    package var anonymousCallsPerConnectionMax = 10
    /// Calls at once on one connection (SETTINGS_MAX_CONCURRENT_STREAMS); more are refused.
    package var streamsPerConnectionMax = 1_000
    /// Handlers of unary methods that run at once on one connection, but for those without a task, and messages that
    /// streaming ones make in their turn; more wait for theirs.
    package var permitsPerConnection = 4
    /// The largest message accepted, for methods that do not say otherwise.
    package var messageBytesMax = 4 * 1024 * 1024
    package var headerListBytesMax = 8 * 1024
    /// A handler that writes faster than its client reads waits while this much is unsent on its stream.
    package var outboundBytesPerStream = 16 * 1024
    /// The same for all streams of a connection together. New calls are refused while four times as much is unsent.
    package var outboundBytesPerConnection = 2 * 1024 * 1024
    /// A message that would make more than this unsent on its connection ends its call with RESOURCE_EXHAUSTED.
    package var outboundBytesMax = 8 * 1024 * 1024
    /// What is unsent on all connections together, beyond 256 KiB of each: answers that are read slowly, or never. A message
    /// that takes them over this, and its stream over 2 KiB, ends its call with RESOURCE_EXHAUSTED.
    package var unreadAnswerBytesMax = 64 * 1024 * 1024
    /// The requests of a connection: those of which a part has come, and those whose handlers run. A call that
    /// takes them over this ends with RESOURCE_EXHAUSTED.
    package var requestBytesPerConnection = 32 * 1024 * 1024
    /// The same on all connections together, beyond 64 KiB of each.
    package var requestBytesMax = 256 * 1024 * 1024
    /// Requests of which a part has come, on all connections together, beyond 64 KiB of each: those that are sent slowly,
    /// or never to their end. A call that takes them over this ends with RESOURCE_EXHAUSTED, one of up to 16 KiB only when
    /// it is not whole with what comes at once.
    package var unfinishedRequestBytesMax = 16 * 1024 * 1024
    /// What a client may send ahead on a stream, beyond the message that is waited for.
    package var streamWindowBytes = 256 * 1024
    /// What may be on its way on all streams: it is given back as soon as it is read from the socket.
    package var connectionWindowBytes = 1024 * 1024
    /// From accepting to the client's SETTINGS, with TLS in between.
    package var handshakeTimeout = Duration.seconds(10)
    /// A connection without a call for this long is closed. Calls that were refused do not count.
    package var idleTimeout = Duration.seconds(15 * 60)
    /// The same for one that is unadmitted; `idleTimeout` if that is shorter.
    package var unadmittedIdleTimeout = Duration.seconds(30)
    /// A connection that has been silent for this long is asked for a sign of life, and closed without one.
    package var keepaliveInterval = Duration.seconds(60)
    package var keepaliveTimeout = Duration.seconds(20)
    /// A client that takes too little (`StallDetector.bytesMin`) of what is queued on a stream for this long loses the stream; one
    /// whose socket takes too little loses the connection. The same for what it sends of a request that it has begun.
    package var stallTimeout = Duration.seconds(16)
    /// A connection older than this is asked to go, when its calls are over; nil: never. Each connection has its own, up
    /// to a tenth more or less.
    package var connectionAgeMax: Duration?
    /// How long the calls of such a connection may take to end; nil: as long as they like.
    package var connectionAgeGrace: Duration?
    /// The third PING that follows another one faster than this, with nothing sent in between, ends the connection.
    package var pingIntervalMin = Duration.seconds(10)
    /// Frames that say nothing (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, GOAWAY, empty or padded DATA, HEADERS of streams
    /// that are over, unknown ones), at once and per second after that, beyond those that acknowledge what was sent. A
    /// SETTINGS counts one more for each 32 open streams. More of them end the connection.
    package var overheadFramesBurst = 1_000
    package var overheadFramesPerSecond = 200
    /// Streams that the server had to reset because the client broke the rules, at once and per second after that. More of
    /// them end the connection.
    package var faultsBurst = 100
    package var faultsPerSecond = 10
    /// Decides who may call; nil: everybody may.
    package var admission: (any Admission)?
    /// Is told of calls and connections that are refused.
    package var refusals: (any RefusalObserver)?
    /// Observe every call, in this order.
    package var interceptors: [any ServerInterceptor] = []
    /// Nil: plaintext, HTTP/2 with prior knowledge.
    package var tls: TLS?
    /// The status for an error that is neither a `Status` nor a `CancellationError`. What it returns goes to the
    /// client: nothing internal belongs in it. The error itself is logged.
    package var errorMapper: @Sendable (any Error) -> Status = { _ in Status(.unknown, "unknown error") }

    package init() {}
}

extension Duration {
    /// For NIO's timers; saturates at about 292 years.
    var timeAmount: TimeAmount {
        let (seconds, attoseconds) = components
        let (nanoseconds, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .nanoseconds(.max) : .nanoseconds(nanoseconds + attoseconds / 1_000_000_000)
    }
}
