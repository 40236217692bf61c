// exact in this file: the address is the operator's.

package import FoundationEssentials
internal import JobModel
package import NIOCore
internal import NIOHTTP1
internal import NIOPosix
internal import NIOSSL

/// Fetches a key set over HTTP, with one GET every few minutes.
///
/// It uses NIO's HTTP/1.1 instead of a client library, because all that it needs is in the program already. A
/// client library would add eleven packages (async-http-client), or libcurl and some thirty libraries, two
/// for TLS among them (URLSession), for features that are not needed here: connection pools, redirects,
/// cookies, proxies.
package struct KeySetFetcher: Sendable {
    package static let timeoutDefault = Duration.seconds(5)

    private let group: any EventLoopGroup
    private let timeout: Duration
    private let bytesMax: Int
    private let rootsPath: String?

    /// - Parameters:
    ///   - rootsPath: a PEM file of trusted certificate authorities; nil: those of the system.
    ///   - timeout: the limit for the whole fetch, including the lookup of the host's name.
    package init(
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton, rootsPath: String? = nil,
        timeout: Duration = timeoutDefault
    ) {
        self.group = group
        self.rootsPath = rootsPath
        self.timeout = timeout
        self.bytesMax = KeySet.bytesMax
    }

    /// - Throws: `KeySetFetchError`.
    package func fetch(_ url: URL) async throws -> [UInt8] {
        guard let host = url.host(), !host.isEmpty, let scheme = url.scheme?.lowercased(),
            ["http", "https"].contains(scheme)
        else { throw KeySetFetchError("the URL must begin with http:// or https://") }
        do {
            // Reading the certificate authorities blocks, so it must not happen on the pool that runs tasks.
            let tls = scheme == "http" ? nil : try await NIOThreadPool.singleton.runIfActive { try makeTLS() }
            return try await get(url, host: host, tls: tls)
        } catch let error as KeySetFetchError {
            throw error
        } catch {
            throw KeySetFetchError(Self.reason(for: error))
        }
    }

    private func get(_ url: URL, host: String, tls: NIOSSLContext?) async throws -> [UInt8] {
        let port = url.port ?? (tls == nil ? 80 : 443)
        let request = Self.request(for: url, host: host)
        let loop = group.next()
        let outcome = loop.makePromise(of: [UInt8].self)
        let timeout = TimeAmount.nanoseconds(Int64(min(timeout.seconds, 3600) * 1e9))
        let deadline = loop.scheduleTask(in: timeout) {
            outcome.fail(KeySetFetchError("no answer in time"))
        }
        // Each address of the host that is tried has a channel of its own. The channel that wins may already
        // be closed and without handlers when the connector reports it.
        let responses = NIOLoopBoundBox.makeBoxSendingValue(
            [ObjectIdentifier: EventLoopFuture<[UInt8]>](), eventLoop: loop)
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls {
                        let isAddress = (try? SocketAddress(ipAddress: host, port: 0)) != nil
                        try pipeline.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: isAddress ? nil : host))
                    }
                    try pipeline.addHTTPClientHandlers()
                    let handler = KeySetResponseHandler(
                        request: request, bytesMax: bytesMax, eventLoop: channel.eventLoop)
                    try pipeline.addHandler(handler)
                    responses.value[ObjectIdentifier(channel)] = handler.response
                }
            }
            .connect(host: host, port: port)
            .flatMap { channel in
                outcome.futureResult.whenComplete { _ in channel.close(promise: nil) }
                return responses.value[ObjectIdentifier(channel)]
                    ?? loop.makeFailedFuture(KeySetFetchError.connectionLost)
            }
            .cascade(to: outcome)
        defer { deadline.cancel() }
        return try await outcome.futureResult.get()
    }

    private static func request(for url: URL, host: String) -> HTTPRequestHead {
        let path = url.path(percentEncoded: true)
        let query = url.query(percentEncoded: true).map { "?\($0)" } ?? ""
        let name = host.contains(":") ? "[\(host)]" : host
        return HTTPRequestHead(
            version: .http1_1, method: .GET, uri: (path.isEmpty ? "/" : path) + query,
            headers: [
                "host": url.port.map { "\(name):\($0)" } ?? name,
                "accept": "application/jwk-set+json, application/json",
                "user-agent": "signalbox",
                "connection": "close",
            ])
    }

    private func makeTLS() throws -> NIOSSLContext {
        var settings = TLSConfiguration.makeClientConfiguration()
        settings.minimumTLSVersion = .tlsv12
        settings.applicationProtocols = ["http/1.1"]
        if let rootsPath { settings.trustRoots = .file(rootsPath) }
        return try NIOSSLContext(configuration: settings)
    }

    private static func reason(for error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            if let last = error.connectionErrors.last { return reason(for: last.error) }
            return error.dnsAError == nil && error.dnsAAAAError == nil
                ? "\(error)" : "the host name cannot be resolved"
        case ChannelError.connectTimeout: return "no answer in time"
        default: return "\(error)"
        }
    }
}

/// The reason why a key set could not be fetched.
package struct KeySetFetchError: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }

    static let connectionLost = Self("the connection was closed before the answer was complete")
}

/// Sends the request once the connection is established, and collects the response.
private final class KeySetResponseHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    var response: EventLoopFuture<[UInt8]> { promise.futureResult }

    private let request: HTTPRequestHead
    private let bytesMax: Int
    private let promise: EventLoopPromise<[UInt8]>
    private var body: [UInt8] = []

    init(request: HTTPRequestHead, bytesMax: Int, eventLoop: any EventLoop) {
        self.request = request
        self.bytesMax = bytesMax
        promise = eventLoop.makePromise()
    }

    func channelActive(context: ChannelHandlerContext) {
        context.write(wrapOutboundOut(.head(request)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            // Redirects are not followed either, because they might lead from https to another scheme or
            // host.
            if head.status != .ok {
                fail(context, KeySetFetchError("answered with status \(head.status.code)"))
            }
        case .body(let buffer):
            guard body.count + buffer.readableBytes <= bytesMax else {
                return fail(context, KeySetFetchError("answered with more than \(bytesMax) bytes"))
            }
            body += buffer.readableBytesView
        case .end:
            promise.succeed(body)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(context, error)
    }

    func channelInactive(context: ChannelHandlerContext) {
        promise.fail(KeySetFetchError.connectionLost)
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        // A connection attempt to another address of the host has failed; the connector goes on with the next.
        promise.fail(KeySetFetchError.connectionLost)
    }

    /// Fails the fetch and closes the connection. The first outcome wins.
    private func fail(_ context: ChannelHandlerContext, _ error: any Error) {
        promise.fail(error)
        context.close(promise: nil)
    }
}
