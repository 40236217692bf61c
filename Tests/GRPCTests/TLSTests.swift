import Foundation
import NIOCore
import GRPC
import Testing

@testable import GRPC

@Suite(.timeLimit(.minutes(3))) struct TLSTests {
    /// The certificates as files, for the length of `body`.
    private struct Files {
        let folder: URL

        init() throws {
            folder = FileManager.default.temporaryDirectory.appendingPathComponent("tls-\(UUID())")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            for (name, text) in [
                ("authority", TestCertificates.authority), ("server", TestCertificates.server),
                ("server-key", TestCertificates.serverKey), ("client", TestCertificates.client),
                ("client-key", TestCertificates.clientKey),
            ] {
                try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: path(name)))
            }
        }

        func path(_ name: String) -> String { folder.appendingPathComponent(name + ".pem").path }

        func remove() {
            try? FileManager.default.removeItem(at: folder)
        }
    }

    private func withTLS(
        mutual: Bool, _ body: (_ port: Int, _ files: Files) async throws -> Void
    ) async throws {
        let files = try Files()
        defer { files.remove() }
        var configuration = ServerConfiguration()
        configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
        configuration.eventLoopThreads = 1
        configuration.tls = .init(
            certificateChainPath: files.path("server"), privateKeyPath: files.path("server-key"),
            clientCAPath: mutual ? files.path("authority") : nil)
        let echo = Method.unary("/t/Echo") { message, _ in message }
        let server = Server(configuration: configuration, methods: [echo], logger: quiet)
        try await server.start()
        do {
            try await body(server.port ?? 0, files)
        } catch {
            await server.shutdown(grace: .zero)
            throw error
        }
        await server.shutdown(grace: .zero)
    }

    private func call(_ port: Int, _ tls: ClientConfiguration.TLS?) async throws {
        var configuration = ClientConfiguration()
        configuration.tls = tls
        let client = try await Client.connect(
            host: "127.0.0.1", port: port, configuration: configuration, logger: quiet)
        let message = ByteBuffer(repeating: 5, count: 300_000)
        let result: Result<ByteBuffer, any Error>
        do {
            result = .success(try await client.unary("/t/Echo", message))
        } catch {
            result = .failure(error)
        }
        await client.close()
        #expect(try result.get() == message)
    }

    @Test func serverCertificate() async throws {
        try await withTLS(mutual: false) { port, files in
            var tls = ClientConfiguration.TLS()
            tls.rootsPath = files.path("authority")
            tls.serverName = "localhost"
            try await call(port, tls)
        }
    }

    @Test func unknownAuthorityWrongNameAndPlaintextAreRefused() async throws {
        try await withTLS(mutual: false) { port, files in
            let untrusted = try await status { try await call(port, .init()) }
            #expect(untrusted.code == .unavailable)
            var tls = ClientConfiguration.TLS()
            tls.rootsPath = files.path("authority")
            for name in ["elsewhere.example", "127.0.0.1", nil] {
                tls.serverName = name
                let named = tls
                let wrongName = try await status { try await call(port, named) }
                #expect(wrongName.code == .unavailable)
            }
            let plaintext = try await status { try await call(port, nil) }
            #expect(plaintext.code == .unavailable)
        }
    }

    @Test func clientCertificate() async throws {
        try await withTLS(mutual: true) { port, files in
            var tls = ClientConfiguration.TLS()
            tls.rootsPath = files.path("authority")
            tls.serverName = "localhost"
            let without = tls
            let refused = try await status { try await call(port, without) }
            #expect(refused.code == .unavailable)
            tls.certificateChainPath = files.path("client")
            tls.privateKeyPath = files.path("client-key")
            try await call(port, tls)
        }
    }

    @Test func anAuthorityThatIsRemovedEndsTheTrust() throws {
        let files = try Files()
        defer { files.remove() }
        func writeAuthorities(_ texts: [String]) throws {
            let text = texts.map { $0 + "\n" }.joined()
            try Data(text.utf8).write(to: URL(fileURLWithPath: files.path("authority")))
        }
        let tls = try TLSContext(
            .init(
                certificateChainPath: files.path("server"), privateKeyPath: files.path("server-key"),
                clientCAPath: files.path("authority")),
            logger: quiet)
        let first = tls.current
        try writeAuthorities([TestCertificates.authority, TestCertificates.client])
        for _ in 0..<2 { tls.reload() }
        #expect(tls.isTrusted(first))
        try writeAuthorities([])
        for _ in 0..<2 { tls.reload() }
        #expect(tls.isTrusted(first), "a file that is wrong changes nothing")
        try writeAuthorities([TestCertificates.client])
        tls.reload()
        #expect(tls.isTrusted(first), "the file may be half written")
        try writeAuthorities([TestCertificates.authority, TestCertificates.client])
        for _ in 0..<2 { tls.reload() }
        #expect(tls.isTrusted(first), "the file is whole again")
        try writeAuthorities([TestCertificates.client])
        for _ in 0..<2 { tls.reload() }
        #expect(!tls.isTrusted(first))
        #expect(tls.isTrusted(tls.current))
    }

    /// A certificate without its key and a missing file change nothing, until both files are there and match.
    @Test func filesThatDoNotMatchKeepTheLastCertificate() throws {
        let files = try Files()
        defer { files.remove() }
        let tls = try TLSContext(
            .init(certificateChainPath: files.path("server"), privateKeyPath: files.path("server-key")),
            logger: quiet)
        let first = tls.current
        func write(_ text: String, to name: String) throws {
            try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: files.path(name)))
        }
        try write(TestCertificates.client, to: "server")
        for _ in 0..<4 { tls.reload() }
        #expect(tls.current.context === first.context)
        try FileManager.default.removeItem(atPath: files.path("server-key"))
        for _ in 0..<4 { tls.reload() }
        #expect(tls.current.context === first.context)
        try write(TestCertificates.clientKey, to: "server-key")
        for _ in 0..<2 { tls.reload() }
        #expect(tls.current.context !== first.context)
    }

    @Test func missingFileIsAnError() async throws {
        var configuration = ServerConfiguration()
        configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
        configuration.eventLoopThreads = 1
        configuration.tls = .init(
            certificateChainPath: "/nowhere/cert.pem", privateKeyPath: "/nowhere/key.pem")
        let server = Server(configuration: configuration, methods: [], logger: quiet)
        await #expect(throws: TLSFileError.self) { try await server.start() }
        await server.shutdown(grace: .zero)
    }
}
