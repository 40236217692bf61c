import ArgumentParser
import Foundation
import Logging
import GRPC
import UnixSignals

/// A server of grpc's test service on the RPC layer alone: what the official clients' interop cases run against.
/// Nothing else depends on it.
@main
struct InteropProgram: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "InteropServer",
        abstract: "Serves grpc.testing.TestService on the loopback until SIGTERM.")

    @Option(help: "The port to listen on; 0 takes any free one.")
    var port = 0

    @Option(help: "A PEM file with the certificate and its chain. Without it: plaintext.")
    var tlsCertificate: String?

    @Option(help: "A PEM file with the certificate's key.")
    var tlsKey: String?

    func validate() throws {
        guard (0...65_535).contains(port) else { throw ValidationError("--port is 0 to 65535") }
        guard (tlsCertificate == nil) == (tlsKey == nil) else {
            throw ValidationError("--tls-certificate and --tls-key go together")
        }
    }

    func run() async throws {
        // Before the line that says it is ready: whoever has read it may end it.
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        let server = Server(
            configuration: serverConfiguration, methods: TestService.methods,
            logger: Logger(label: "interop", factory: { StreamLogHandler.standardError(label: $0) }))
        try await server.start()
        print("listening on 127.0.0.1:\(server.port ?? port)")
        // The line is for a program that waits for it through a pipe.
        fflush(nil)
        for await _ in signals { break }
        await server.shutdown(grace: .seconds(1))
    }

    private var serverConfiguration: ServerConfiguration {
        var configuration = ServerConfiguration()
        // Its answers are as large as they are asked for.
        configuration.outboundBytesMax = 64 << 20
        configuration.addresses = [.init(host: "127.0.0.1", port: port)]
        configuration.errorMapper = { error, _ in
            if let error = error as? WireError { return Status(.internalError, error.message) }
            return Status(.unknown, "unknown error")
        }
        if let tlsCertificate, let tlsKey {
            configuration.tls = .init(certificateChainPath: tlsCertificate, privateKeyPath: tlsKey)
        }
        return configuration
    }
}
