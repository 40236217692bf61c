import Authentication
import Crypto
import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import SwiftASN1
import Testing
import X509

/// A server that says the same to everybody.
private final class ScriptedServer: Sendable {
    let port: Int
    /// What was asked, one text a request.
    let requests: AsyncStream<String>
    private let channel: any Channel

    /// - Parameter answer: bytes as they are; nil: never any.
    init(_ answer: String?, closes: Bool = true, tls: NIOSSLContext? = nil) async throws {
        let (requests, continuation) = AsyncStream.makeStream(of: String.self)
        self.requests = requests
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls {
                        try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls))
                    }
                    try channel.pipeline.syncOperations.addHandler(
                        Answering(answer: answer, closes: closes, requests: continuation))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        port = channel.localAddress?.port ?? 0
    }

    func url(_ rest: String = "/jwks.json", scheme: String = "http", host: String = "127.0.0.1") throws -> URL
    {
        try #require(URL(string: "\(scheme)://\(host):\(port)\(rest)"))
    }

    func stop() async {
        try? await channel.close()
    }

    private final class Answering: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        let answer: String?
        let closes: Bool
        let requests: AsyncStream<String>.Continuation
        private var received = ""

        init(answer: String?, closes: Bool, requests: AsyncStream<String>.Continuation) {
            self.answer = answer
            self.closes = closes
            self.requests = requests
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            received += String(buffer: unwrapInboundIn(data))
            // What is no HTTP gets its answer, too.
            guard received.hasSuffix("\r\n\r\n") || !received.hasPrefix("GET ") else { return }
            requests.yield(received)
            guard let answer else { return }
            let written = context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)))
            guard closes else { return }
            written.assumeIsolated().whenComplete { _ in context.close(promise: nil) }
        }
    }
}

private func ok(_ body: String, headers: String = "") -> String {
    "HTTP/1.1 200 OK\r\n\(headers)content-length: \(body.utf8.count)\r\n\r\n\(body)"
}

@Suite(.timeLimit(.minutes(3))) struct KeySetFetcherTests {
    private func fetch(
        _ answer: String?, closes: Bool = true, timeout: Duration = .seconds(5)
    ) async throws -> Result<String, KeySetFetchError> {
        let server = try await ScriptedServer(answer, closes: closes)
        let result = await fetch(try server.url(), KeySetFetcher(timeout: timeout))
        await server.stop()
        return result
    }

    private func fetch(_ url: URL, _ fetcher: KeySetFetcher = KeySetFetcher()) async -> Result<
        String, KeySetFetchError
    > {
        do {
            return .success(String(decoding: try await fetcher.fetch(url), as: UTF8.self))
        } catch let error as KeySetFetchError {
            return .failure(error)
        } catch {
            Issue.record("\(error)")
            return .success("")
        }
    }

    private func reason(_ result: Result<String, KeySetFetchError>) -> String {
        switch result {
        case .success(let text): "fetched \(text.prefix(100))"
        case .failure(let error): error.description
        }
    }

    @Test func theBodyIsFetched() async throws {
        for closes in [true, false] {
            #expect(try await fetch(ok("{\"keys\": []}"), closes: closes).get() == "{\"keys\": []}")
            #expect(try await fetch(ok(""), closes: closes).get() == "")
            let chunked =
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"k\r\n2\r\n\"}\r\n0\r\n\r\n"
            #expect(try await fetch(chunked, closes: closes).get() == "{\"k\"}")
        }
        #expect(try await fetch("HTTP/1.0 200 OK\r\n\r\nuntil the end").get() == "until the end")
    }

    @Test func whatIsAsked() async throws {
        let server = try await ScriptedServer(ok("{}"))
        _ = await fetch(try server.url("/a%20b/jwks?x=%2F&y"))
        _ = await fetch(try server.url(""))
        var requests = server.requests.makeAsyncIterator()
        let first = await requests.next()?.split(separator: "\r\n").map(String.init)
        #expect(
            first == [
                "GET /a%20b/jwks?x=%2F&y HTTP/1.1", "host: 127.0.0.1:\(server.port)",
                "accept: application/jwk-set+json, application/json", "user-agent: signalbox",
                "connection: close",
            ])
        #expect(await requests.next()?.hasPrefix("GET / HTTP/1.1\r\n") == true)
        await server.stop()
    }

    @Test(arguments: [301, 302, 307, 404, 500, 204, 206])
    func otherStatuses(_ status: Int) async throws {
        let answer = "HTTP/1.1 \(status) X\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"
        #expect(try await reason(fetch(answer)) == "answered with status \(status)")
    }

    @Test func size() async throws {
        let most = String(repeating: " ", count: 1 << 20)
        #expect(try await fetch(ok(most)).get() == most)
        #expect(try await reason(fetch(ok(most + " "))) == "answered with more than 1048576 bytes")
        // However it is said.
        let chunk = "100000\r\n\(most)\r\n"
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\(chunk)\(chunk)0\r\n\r\n"
        #expect(try await reason(fetch(chunked)) == "answered with more than 1048576 bytes")
        #expect(
            try await reason(fetch("HTTP/1.0 200 OK\r\n\r\n\(most)\(most)"))
                == "answered with more than 1048576 bytes")
    }

    @Test func brokenAnswers() async throws {
        #expect(
            try await reason(fetch("")) == "the connection was closed before the answer was complete")
        for answer in [
            "no HTTP\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        ] {
            guard case .failure = try await fetch(answer) else {
                Issue.record("\(answer)")
                continue
            }
        }
    }

    /// Silent, or never done.
    @Test func timeouts() async throws {
        for answer in [nil, "HTTP/1.1 200 OK\r\n", ok("{}").replacing("length: 2", with: "length: 3")] {
            #expect(
                try await reason(fetch(answer, closes: false, timeout: .milliseconds(50)))
                    == "no answer in time")
        }
    }

    @Test func noServer() async throws {
        // Nobody listens there, and no test is given that port.
        let url = try #require(URL(string: "http://127.0.0.1:1/jwks.json"))
        #expect(await reason(fetch(url)).contains("refused"))
        for text in ["ftp://127.0.0.1/", "file:///etc/passwd", "/jwks.json"] {
            let url = try #require(URL(string: text))
            #expect(await reason(fetch(url)) == "the URL must begin with http:// or https://")
        }
    }

    @Test func encrypted() async throws {
        let folder = try TestFolder()
        let authority = try Authority()
        let roots = try folder.write(authority.pem, to: "roots.pem")
        let server = try await ScriptedServer(ok("{}"), tls: authority.context(for: "localhost"))
        let fetcher = KeySetFetcher(rootsPath: roots)
        #expect(try await fetch(server.url(scheme: "https", host: "localhost"), fetcher).get() == "{}")
        // Neither a stranger's certificate nor one for another name, nor one at all that is not shown.
        #expect(
            await reason(fetch(try server.url(scheme: "https", host: "localhost"))).contains(
                "CERTIFICATE_VERIFY_FAILED"))
        guard case .failure = await fetch(try server.url(scheme: "https"), fetcher) else {
            Issue.record("fetched under another name")
            return
        }
        await server.stop()
        let plain = try await ScriptedServer(ok("{}"))
        #expect(
            await reason(fetch(try plain.url(scheme: "https", host: "localhost"), fetcher)).contains(
                "WRONG_VERSION_NUMBER"))
        await plain.stop()
        let missing = await fetch(
            try server.url(scheme: "https"), KeySetFetcher(rootsPath: folder.path("none.pem")))
        guard case .failure = missing else {
            Issue.record("fetched without authorities")
            return
        }
    }
}

/// Signs certificates for tests.
private struct Authority {
    private let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
    private let certificate: Certificate

    init() throws {
        certificate = try Self.certificate(
            for: key.publicKey, named: "authority", by: "authority", key,
            Certificate.Extensions { Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil)) })
    }

    var pem: String {
        get throws { try certificate.serializeAsPEM().pemString + "\n" }
    }

    func context(for host: String) throws -> NIOSSLContext {
        let secret = P256.Signing.PrivateKey()
        let certificate = try Self.certificate(
            for: Certificate.PrivateKey(secret).publicKey, named: host, by: "authority", key,
            Certificate.Extensions { SubjectAlternativeNames([.dnsName(host)]) })
        var serializer = DER.Serializer()
        try serializer.serialize(certificate)
        return try NIOSSLContext(
            configuration: .makeServerConfiguration(
                certificateChain: [
                    .certificate(NIOSSLCertificate(bytes: serializer.serializedBytes, format: .der))
                ],
                privateKey: .privateKey(
                    NIOSSLPrivateKey(bytes: Array(secret.pemRepresentation.utf8), format: .pem))))
    }

    private static func certificate(
        for publicKey: Certificate.PublicKey, named name: String, by issuer: String,
        _ key: Certificate.PrivateKey,
        _ extensions: Certificate.Extensions
    ) throws -> Certificate {
        try Certificate(
            version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
            notValidBefore: Date(timeIntervalSinceNow: -3600),
            notValidAfter: Date(timeIntervalSinceNow: 3600),
            issuer: DistinguishedName { CommonName(issuer) }, subject: DistinguishedName { CommonName(name) },
            signatureAlgorithm: .ecdsaWithSHA256, extensions: extensions, issuerPrivateKey: key)
    }
}
