import GRPC
import JobModel
package import NIOCore
import SignalboxJobs
package import SignalboxProto

/// Makes calls: with the token, within a time, and again where that is safe.
struct Caller: Sendable {
    /// The server takes 8 KiB of headers in all.
    private static let tokenBytesMax = 8 << 10

    let connector: Connector
    let configuration: SignalboxClient.Configuration
    /// The time limit of one call, including connecting and retries.
    var timeout: Duration

    /// Throws a `Status`, or what connecting and the function of the token throw.
    ///
    /// - Parameter isSafe: the call may be made twice.
    func call<Response: ResponseMessage>(
        _ path: String, _ request: some RequestMessage & Sendable, isSafe: Bool = true,
        as _: Response.Type = Response.self
    ) async throws -> Response {
        let deadline = ContinuousClock.now + timeout
        var retry = isSafe ? configuration.retry.map { CallRetry($0, deadline: deadline) } : nil
        while true {
            do {
                return try await once(path, request, deadline)
            } catch let status as Status {
                guard await !connector.hasEnded, let delay = retry?.delay(after: status, now: .now) else {
                    throw status
                }
                try await Task.sleep(for: delay)
            }
        }
    }

    private func once<Response: ResponseMessage>(
        _ path: String, _ request: some RequestMessage & Sendable, _ deadline: ContinuousClock.Instant
    ) async throws -> Response {
        let (connection, metadata) = try await within(deadline - .now, waitingFor: "a connection and a token")
        {
            (try await connector.connection(), try await self.metadata())
        }
        do {
            let bytes = try await connection.client.unary(
                path, request.encode(), metadata: metadata, timeout: max(deadline - .now, .milliseconds(1)))
            return try Response.decodeAnswer(bytes)
        } catch let status as Status where status.code == .unavailable {
            await connector.giveUpIfClosed(connection)
            throw status
        }
    }

    /// The header with the token.
    func metadata() async throws -> Metadata {
        let token: String
        switch configuration.token?.source {
        case nil: return Metadata()
        case .text(let text): token = text
        case .function(let provide): token = try await provide()
        }
        guard (1...Self.tokenBytesMax).contains(token.utf8.count),
            token.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else {
            throw SignalboxError(
                .invalidArgument, "the token is not 1 to \(Self.tokenBytesMax) visible characters of ASCII")
        }
        return ["authorization": "Bearer \(token)"]
    }
}

/// Runs `body`, and waits for it no longer than `time`, nor after a cancellation; it is cancelled then.
func within<Value: Sendable>(
    _ time: Duration, waitingFor what: String, _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    let (outcomes, outcome) = AsyncStream<Result<Value, any Error>>.makeStream(
        bufferingPolicy: .bufferingOldest(1))
    let work = Task {
        do {
            outcome.yield(.success(try await body()))
        } catch {
            outcome.yield(.failure(error))
        }
    }
    let timer = Task {
        try await Task.sleep(for: time)
        outcome.yield(
            .failure(Status(.deadlineExceeded, "the deadline has passed while waiting for \(what)")))
    }
    defer {
        work.cancel()
        timer.cancel()
    }
    for await outcome in outcomes { return try outcome.get() }
    throw CancellationError()
}

extension ResponseMessage {
    /// Throws a `Status` when the answer makes no sense, as when the server is of another kind or version.
    package static func decodeAnswer(_ bytes: ByteBuffer) throws -> Self {
        do {
            return try decode(bytes)
        } catch {
            throw Status(.internalError, "the server's response cannot be read: \(error)")
        }
    }
}

extension SignalboxError {
    fileprivate init(_ status: Status) {
        let details = status.decodedDetails
        self.init(
            Code(rawValue: status.code.rawValue) ?? .unknown, status.message,
            reason: details?.errorInfo?.reason, metadata: details?.errorInfo?.metadata ?? [:],
            violations: details?.badRequest.map {
                .init(field: $0.field, reason: $0.reason, description: $0.description)
            } ?? [],
            retryDelay: details?.retryDelay, quota: details?.quota?.subject,
            jobID: details?.resource.flatMap { JobID($0.name)?.uuid })
    }

    /// For those who use the client: errors of its own parts become `SignalboxError`.
    static func from(_ error: any Error) -> any Error {
        switch error {
        // A call that its own task has cancelled ends with CANCELLED.
        case is Status where Task.isCancelled: CancellationError()
        case let status as Status: SignalboxError(status)
        case let error as TLSFileError: SignalboxError(.invalidArgument, "\(error)")
        default: error
        }
    }
}
