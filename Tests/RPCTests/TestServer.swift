import Logging
import NIOCore
import RPC
import Synchronization

let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

/// Runs a server and a client of it for the length of `body`.
func withServer(
    _ methods: [Method], configure: (inout ServerConfiguration) -> Void = { _ in },
    body: (Server, Client) async throws -> Void
) async throws {
    var configuration = ServerConfiguration()
    configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
    configuration.eventLoopThreads = 1
    configure(&configuration)
    let server = Server(configuration: configuration, methods: methods, logger: quiet)
    try await server.start()
    let client = try await Client.connect(host: "127.0.0.1", port: server.port ?? 0, logger: quiet)
    do {
        try await body(server, client)
    } catch {
        await client.close()
        await server.shutdown(grace: .zero)
        throw error
    }
    await client.close()
    await server.shutdown(grace: .zero)
}

/// Something that happens once, and can be waited for.
final class Signal<Value: Sendable>: Sendable {
    private let stream: AsyncStream<Value>
    private let continuation: AsyncStream<Value>.Continuation

    init() {
        (stream, continuation) = AsyncStream.makeStream()
    }

    func send(_ value: Value) {
        continuation.yield(value)
    }

    /// Ends with `CancellationError` when the task is cancelled first.
    func wait() async throws -> Value {
        for await value in stream { return value }
        throw CancellationError()
    }
}

/// The status that `body` throws, or OK.
func status(of body: () async throws -> Void) async throws -> Status {
    do {
        try await body()
        return Status(.ok)
    } catch let status as Status {
        return status
    }
}
