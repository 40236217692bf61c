import MessageCompression
import NIOCore
import NIOPosix
import GRPC

/// A message of an answer, within the limits: clients ask for sizes and times, and this program is to survive them.
struct PlannedResponse {
    static let sizeMax = 16 * 1024 * 1024
    static let intervalMax = Duration.seconds(60)

    let size: Int
    /// Waited for before it is sent.
    let interval: Duration
    /// Nil: as the request came.
    let compressed: Bool?

    init(
        type: Int32, size: Int32, intervalMicroseconds: Int32 = 0, compressed: Bool?
    ) throws(Status) {
        guard type == 0 else { throw Status(.invalidArgument, "no payload has the type \(type)") }
        guard (0...Self.sizeMax).contains(Int(size)) else {
            throw Status(.invalidArgument, "a payload has 0 to \(Self.sizeMax) bytes, not \(size)")
        }
        let interval = Duration.microseconds(Int64(intervalMicroseconds))
        guard (Duration.zero...Self.intervalMax).contains(interval) else {
            throw Status(.invalidArgument, "an interval is 0 to \(Self.intervalMax), not \(interval)")
        }
        self.size = Int(size)
        self.interval = interval
        self.compressed = compressed
    }
}

extension StreamingOutputCallRequest {
    /// All of them are looked at before the first is sent, so that a wrong one is answered with its status alone.
    func planned() throws(Status) -> [PlannedResponse] {
        var planned: [PlannedResponse] = []
        planned.reserveCapacity(responseParameters.count)
        for parameters in responseParameters {
            planned.append(
                try PlannedResponse(
                    type: responseType, size: parameters.size,
                    intervalMicroseconds: parameters.intervalMicroseconds,
                    compressed: parameters.compressed))
        }
        return planned
    }
}

extension ServerContext {
    /// Has the answer's headers name a coding, whatever the request came in: the first of ours that the client takes.
    /// It must be known before the first message, and each message can still be sent without it.
    func announceCoding() {
        guard responseCoding == nil else { return }
        responseCoding = Coding.allCases.first { accepts($0) }
    }
}

/// Returns when so much time has passed, as the client has asked for. Ends early with the call: its task is cancelled
/// then.
private func pass(_ interval: Duration) async throws {
    let (seconds, attoseconds) = interval.components
    let time = TimeAmount.nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    let timer = MultiThreadedEventLoopGroup.singleton.next().scheduleTask(in: time) {}
    try await withTaskCancellationHandler {
        try await timer.futureResult.get()
    } onCancel: {
        timer.cancel()
    }
}

extension ResponseWriter {
    func write(_ responses: [PlannedResponse], asCompressed: Bool) async throws {
        for response in responses {
            if response.interval > .zero { try await pass(response.interval) }
            try await write(
                payloadResponse(size: response.size), compressed: response.compressed ?? asCompressed)
        }
    }
}
