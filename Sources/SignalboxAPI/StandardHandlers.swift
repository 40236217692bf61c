import JobService
import SignalboxProto
import NIOCore
package import GRPC
import Support
import Synchronization

/// Whether this server takes calls, for `grpc.health.v1.Health`.
package final class HealthState: Sendable {
    private struct State {
        var isServing = false
        var isOver = false
        var watchers: [Int: AsyncStream<Bool>.Continuation] = [:]
        var nextWatcher = 0
    }

    private let state = Mutex(State())

    package init() {}

    package func set(serving: Bool) {
        let watchers = state.withLock { state in
            state.isServing = serving
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.yield(serving) }
    }

    /// Ends every `Watch` stream after it has sent the last state, including streams that begin later.
    package func end() {
        let watchers = state.withLock { state in
            state.isOver = true
            return Array(state.watchers.values)
        }
        for watcher in watchers { watcher.finish() }
    }

    var isServing: Bool { state.withLock(\.isServing) }

    /// The state now and after every change; a slow reader sees only the latest.
    func changes() -> AsyncStream<Bool> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            let id: Int? = state.withLock { state in
                continuation.yield(state.isServing)
                if state.isOver { return nil }
                state.nextWatcher += 1
                state.watchers[state.nextWatcher] = continuation
                return state.nextWatcher
            }
            guard let id else { return continuation.finish() }
            continuation.onTermination = { [weak self] _ in
                self?.state.withLock { $0.watchers[id] = nil }
            }
        }
    }
}

/// `grpc.health.v1.Health` (gRPC's doc/health-checking.md) and
/// `grpc.reflection.v1.ServerReflection` (doc/server-reflection.md).
package struct StandardHandlers: Sendable {
    let health: HealthState

    package init(health: HealthState) {
        self.health = health
    }

    package var methods: [Method] {
        [
            Method(
                HealthMethod.check, maxRequestBytes: Self.requestBytesMax,
                .unary { bytes, _, _ in
                    // Frequent probes ask about the whole server, with an empty message.
                    let service = bytes.readableBytes == 0 ? "" : try HealthCheckRequest.read(bytes).service
                    guard Self.isKnown(service) else {
                        throw StatusMapping.serviceNotFound(service.text)
                    }
                    return .message(health.isServing ? Self.serving : Self.notServing)
                }),
            .serverStreaming(HealthMethod.watch, maxRequestBytes: Self.requestBytesMax) {
                bytes, _, writer in
                let request = try HealthCheckRequest.read(bytes)
                var last: HealthCheckResponse.Status?
                for await isServing in health.changes() {
                    let status: HealthCheckResponse.Status =
                        Self.isKnown(request.service)
                        ? (isServing ? .serving : .notServing) : .serviceUnknown
                    guard status != last else { continue }
                    last = status
                    try await writer.write(HealthCheckResponse(status: status).encode())
                }
                try Task.checkCancellation()
                throw StatusMapping.status(for: ServiceError.shuttingDown)
            },
            // The older name has the same messages; many tools know only that.
            reflection(ServerReflectionMethod.serverReflectionInfo),
            reflection(ServerReflectionV1AlphaMethod.serverReflectionInfo),
        ]
    }

    /// Names. Any client may call the health service, and `Watch` keeps its request.
    private static let requestBytesMax = 1 << 10

    private static let serving = HealthCheckResponse(status: .serving).encode()
    private static let notServing = HealthCheckResponse(status: .notServing).encode()

    private static func isKnown(_ service: ExactText) -> Bool {
        service.isEmpty || DescriptorTable.services.contains(service)
    }

    private func reflection(_ path: String) -> Method {
        .bidirectional(path, maxRequestBytes: Self.requestBytesMax) { requests, _, writer in
            for try await bytes in requests {
                let request = try ServerReflectionRequest.read(bytes)
                let answer = DescriptorTable.answer(request.question)
                let response = ServerReflectionResponse(
                    validHost: request.host, originalRequest: request, answer: answer)
                try await writer.write(response.encode())
            }
        }
    }
}
