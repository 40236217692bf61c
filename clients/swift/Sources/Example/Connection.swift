import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2Posix

/// Calls `body` with a client of the service that the environment names: SIGNALBOX_ADDRESS (host:port),
/// SIGNALBOX_CA (a PEM file of the authorities to trust; then the connection uses TLS) and SIGNALBOX_TOKEN (sent
/// with every call).
func withService(_ body: @Sendable (JobService) async throws -> Void) async throws {
    // A variable that is empty counts as unset.
    let environment = ProcessInfo.processInfo.environment.filter { !$0.value.isEmpty }
    let address = environment["SIGNALBOX_ADDRESS"] ?? "localhost:7600"
    guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...])
    else {
        throw RPCError(code: .invalidArgument, message: "SIGNALBOX_ADDRESS is not host:port: \(address)")
    }
    var security = HTTP2ClientTransport.Posix.TransportSecurity.plaintext
    if let path = environment["SIGNALBOX_CA"] {
        security = .tls { $0.trustRoots = .certificates([.file(path: path, format: .pem)]) }
    }
    let transport = try HTTP2ClientTransport.Posix(
        target: .dns(host: String(address[..<colon]), port: port),
        transportSecurity: security,
        config: .defaults {
            // A node that restarts is found again soon.
            $0.backoff = .init(initial: .milliseconds(100), max: .seconds(2), multiplier: 2, jitter: 0.2)
            // A connection whose peer has vanished is noticed within 30 s, also while nothing is sent.
            $0.connection.keepalive = .init(
                time: .seconds(20), timeout: .seconds(10), allowWithoutCalls: false)
        }
    )
    let interceptors = environment["SIGNALBOX_TOKEN"].map { [BearerToken(token: $0)] } ?? []
    try await withGRPCClient(transport: transport, interceptors: interceptors) { client in
        try await body(JobService(wrapping: client))
    }
}

/// Adds the token to every call.
struct BearerToken: ClientInterceptor {
    let token: String

    func intercept<Input: Sendable, Output: Sendable>(
        request: StreamingClientRequest<Input>,
        context: ClientContext,
        next: (StreamingClientRequest<Input>, ClientContext) async throws -> StreamingClientResponse<Output>
    ) async throws -> StreamingClientResponse<Output> {
        var request = request
        request.metadata.replaceOrAddString("Bearer \(token)", forKey: "authorization")
        return try await next(request, context)
    }
}
