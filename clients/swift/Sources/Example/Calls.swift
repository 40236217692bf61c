import GRPCCore
import GRPCProtobuf

/// The time that a call with one response may take, with all its tries.
let callMax = Duration.seconds(10)

/// The options of every call.
let anyCall: CallOptions = {
    var options = CallOptions.defaults
    // A job with many attempts may have more than the 4 MiB that gRPC accepts by default. The transport ignores the
    // limit of responses up to version 2.9.2, and applies the limit of requests to responses instead.
    options.maxResponseMessageBytes = 16 << 20
    options.maxRequestMessageBytes = 16 << 20
    return options
}()

/// Makes a call that is safe to repeat, and repeats it while the service is unavailable and the deadline allows it.
/// Enqueue is safe to repeat because the client chooses the job's id; Cancel and GetJob are idempotent.
func call<Response>(_ method: (CallOptions) async throws -> Response) async throws -> Response {
    let deadline = ContinuousClock.now + callMax
    var backoff = Backoff()
    while true {
        var options = anyCall
        options.timeout = deadline - .now
        do {
            return try await method(options)
        } catch let error as RPCError where error.code == .unavailable {
            let delay = try backoff.next(after: error)
            guard .now + delay < deadline else { throw error }
            try await Task.sleep(for: delay)
        }
    }
}

/// Delays between tries, which double from 0.1 s to 2 s.
struct Backoff {
    private var nominal = Duration.milliseconds(100)

    /// A delay at random from half of its nominal length to all of it, so that clients do not return together; or the
    /// longer one that the service asks for.
    mutating func next(after error: RPCError) throws -> Duration {
        let details = try error.unpackGoogleRPCStatus()?.details ?? []
        let asked = details.compactMap(\.retryInfo?.delay).first ?? .zero
        let delay = nominal * Double.random(in: 0.5...1)
        nominal = min(nominal * 2, .seconds(2))
        return max(delay, asked)
    }
}
