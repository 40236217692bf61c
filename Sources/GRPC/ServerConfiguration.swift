internal import NIOCore

/// Where a server listens, and its limits, all of which hold for this process.
package struct ServerConfiguration: Sendable {
    /// Files in PEM form. Clients must offer "h2" by ALPN and at least TLS 1.2.
    package struct TLS: Sendable {
        package var certificateChainPath: String
        package var privateKeyPath: String
        /// If set, a client must present a certificate signed by one of these authorities.
        package var clientCAPath: String?

        package init(certificateChainPath: String, privateKeyPath: String, clientCAPath: String? = nil) {
            self.certificateChainPath = certificateChainPath
            self.privateKeyPath = privateKeyPath
            self.clientCAPath = clientCAPath
        }
    }

    package var addresses = [HostPort(host: "127.0.0.1", port: 50051)]
    package var eventLoopThreads = System.coreCount
    /// The most open connections. When it is reached the server accepts no more until one closes. Half of them may be
    /// unadmitted (`ConnectionLimiter`).
    package var connectionsMax = 10_000
    /// The most open connections from one address, or one IPv6 network of 64 bits; more are closed at once. Half of them may
    /// be unadmitted.
    package var connectionsPerAddressMax = 5_000
    /// The most open calls without credentials (`Admitted.isAnonymous`), on all unadmitted connections together.
    package var anonymousCallsMax = 2_000
    /// The most such calls from one address, or one IPv6 network.
    package var anonymousCallsPerAddressMax = 500
    /// The most such calls on one connection.
    package var anonymousCallsPerConnectionMax = 10
    /// The most calls in flight on one connection (SETTINGS_MAX_CONCURRENT_STREAMS); more are refused.
    package var streamsPerConnectionMax = 1_000
    /// The concurrency limit of each connection for what may build a large response: handlers of unary methods that take a
    /// permit, and messages that streaming handlers write with one. More of them wait.
    package var permitsPerConnection = 4
    /// The largest message accepted, for methods that do not say otherwise.
    package var messageBytesMax = 4 * 1024 * 1024
    package var headerListBytesMax = 8 * 1024
    /// Backpressure: a streaming handler waits while this many bytes are unsent on its stream.
    package var outboundBytesPerStream = 16 * 1024
    /// Backpressure for all streams of a connection together. New calls are refused while four times as much is unsent.
    package var outboundBytesPerConnection = 2 * 1024 * 1024
    /// The most bytes unsent on one connection. A message that would exceed it ends its call with RESOURCE_EXHAUSTED.
    package var outboundBytesMax = 8 * 1024 * 1024
    /// The memory budget for unsent bytes of all connections, of which 256 KiB of each are exempt: responses that are read
    /// slowly or never. A message that exceeds it, and takes its stream over 2 KiB, ends its call with RESOURCE_EXHAUSTED.
    package var unreadAnswerBytesMax = 64 * 1024 * 1024
    /// The most bytes of requests that one connection holds, incomplete or with running handlers. A call that exceeds it
    /// ends with RESOURCE_EXHAUSTED.
    package var requestBytesPerConnection = 32 * 1024 * 1024
    /// The memory budget for such requests of all connections, of which 64 KiB of each are exempt.
    package var requestBytesMax = 256 * 1024 * 1024
    /// The memory budget for incomplete requests of all connections, of which 64 KiB of each are exempt: those that are sent
    /// slowly or never completed. A call that exceeds it ends with RESOURCE_EXHAUSTED; one of up to 16 KiB only if it is
    /// not complete within one burst of reads.
    package var unfinishedRequestBytesMax = 16 * 1024 * 1024
    /// The flow-control window of a stream, beyond the message that the handler waits for.
    package var streamWindowBytes = 256 * 1024
    /// The flow-control window of a connection, which is opened again as soon as bytes are read from the socket.
    package var connectionWindowBytes = 1024 * 1024
    /// The time limit from accepting a connection to the client's SETTINGS, TLS included.
    package var handshakeTimeout = Duration.seconds(10)
    /// A connection without calls for this long is closed. Refused calls do not count.
    package var idleTimeout = Duration.seconds(15 * 60)
    /// The idle timeout of unadmitted connections; `idleTimeout` if that is shorter.
    package var unadmittedIdleTimeout = Duration.seconds(30)
    /// A keepalive PING is sent after this much inactivity, and the connection is closed if it is not acknowledged within
    /// `keepaliveTimeout`.
    package var keepaliveInterval = Duration.seconds(60)
    package var keepaliveTimeout = Duration.seconds(20)
    /// A stream is reset if for this long the client reads too little of the response, or sends too little of the request
    /// (`StallDetector.bytesMin`). If its socket takes too little, the connection is closed.
    package var stallTimeout = Duration.seconds(16)
    /// The age at which a connection is drained; nil: never. Each connection has a jitter of up to a tenth.
    package var connectionAgeMax: Duration?
    /// The time limit for the calls of such a connection to end; nil: none.
    package var connectionAgeGrace: Duration?
    /// The third PING that follows another one sooner than this, with nothing sent in between, ends the connection.
    package var pingIntervalMin = Duration.seconds(10)
    /// The rate limit (burst, and per second) on frames without content, beyond those that acknowledge what was sent:
    /// SETTINGS, PING, PRIORITY, WINDOW_UPDATE, GOAWAY, empty or padded DATA, HEADERS of closed streams, unknown frames. A
    /// SETTINGS counts one more for each 32 open streams. A client that exceeds it is cut off.
    package var overheadFramesBurst = 1_000
    package var overheadFramesPerSecond = 200
    /// The rate limit (burst, and per second) on streams that the server had to reset because the client broke the rules. A
    /// client that exceeds it is cut off.
    package var faultsBurst = 100
    package var faultsPerSecond = 10
    /// Decides which calls are admitted; nil: all are.
    package var admission: (any Admission)?
    /// Receives calls and connections that are refused.
    package var refusals: (any RefusalObserver)?
    /// Observe every call, in this order.
    package var interceptors: [any ServerInterceptor] = []
    /// Nil: plaintext, HTTP/2 with prior knowledge.
    package var tls: TLS?
    /// The status for an error that is neither a `Status` nor a `CancellationError`. The client sees it, so nothing internal
    /// belongs in it. The error itself is logged.
    package var errorMapper: @Sendable (_ error: any Error, _ path: String) -> Status = { _, _ in
        Status(.unknown, "unknown error")
    }
    /// Makes `Status.details` for a status that has a `Status.reason`, on an event loop; nil: such a status has no details.
    package var detailsEncoder: (@Sendable (Status) -> [UInt8])?

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
