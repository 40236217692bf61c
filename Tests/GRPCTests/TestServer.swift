import Logging
import NIOCore
import GRPC
import Synchronization
import Testing

let quiet = Logger(label: "tests", factory: { _ in SwiftLogNoOpLogHandler() })

/// Runs a server and a client of it for the length of `body`.
func withServer(
    _ methods: [Method], configure: (inout ServerConfiguration) -> Void = { _ in },
    body: (Server, Client) async throws -> Void
) async throws {
    var configuration = ServerConfiguration()
    configuration.addresses = [.init(host: "127.0.0.1", port: 0)]
    configuration.eventLoopThreads = 1
    // A reader here may get no turn for long, while all other tests have theirs.
    configuration.stallTimeout = .seconds(300)
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

/// Waits until its task is cancelled, and tells so.
func hang(_ began: Signal<Void>, _ cancelled: Signal<Void>) async throws {
    began.send(())
    do {
        try await Signal<Void>().wait()
    } catch {
        cancelled.send(())
        throw error
    }
}

/// That a unary method gives back what it gets, call after call.
func expectEcho(_ method: GRPC.Method, _ count: Int) async throws {
    try await withServer([method]) { _, client in
        let message = ByteBuffer(repeating: 3, count: count)
        for _ in 0..<3 {
            let answer = try await client.unary(method.path, message)
            #expect(answer == message)
        }
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
