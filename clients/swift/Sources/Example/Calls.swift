import GRPCCore
import GRPCProtobuf

/// The time that a call with one response may take, with all its tries.
let callMax = Duration.seconds(10)

/// Makes a call that is safe to repeat, and repeats it while the service is unavailable and the deadline allows it.
/// Enqueue is safe to repeat because the client chooses the job's id; Cancel and GetJob are idempotent.
func call<Response>(_ method: (CallOptions) async throws -> Response) async throws -> Response {
    let deadline = ContinuousClock.now + callMax
    var backoff = Backoff()
    while true {
        var options = CallOptions.defaults
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
