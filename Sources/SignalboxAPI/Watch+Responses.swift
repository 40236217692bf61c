import JobModel
import JobService
import SignalboxProto
import NIOCore
package import GRPC

/// A watch as the server of gRPC pulls it.
extension Watch: ResponseSource {
    package func next() -> ResponseStep {
        switch nextStep() {
        case .item(let item): .message(item.message)
        case .wait: .wait
        case .work(let body): .work(body)
        case .end(let error): .end(error.map { StatusMapping.status(for: $0) })
        }
    }
}

extension WatchItem {
    /// The message of an item.
    var message: ByteBuffer {
        switch self {
        case .snapshot(let job): WatchResponse(.snapshot(job)).encode()
        case .update(let update): update.message
        case .log(let id, let lines): WatchResponse(.log(id, lines)).encode()
        case .heartbeat(let at): WatchResponse(.heartbeat(at: at)).encode()
        case .snapshotsComplete: WatchResponse(.snapshotsComplete).encode()
        }
    }
}

extension WatchUpdate {
    /// The encoded message, which all watches that get this object share.
    private final class Encoded: Sendable {
        let bytes: ByteBuffer

        init(_ bytes: ByteBuffer) {
            self.bytes = bytes
        }
    }

    fileprivate var message: ByteBuffer {
        // Only this method sets the product of an update.
        (product { Encoded($0.encoded) } as? Encoded)?.bytes ?? encoded
    }

    private var encoded: ByteBuffer {
        switch content {
        case .event(let event): WatchResponse(.lifecycle(event)).encode()
        case .progress(let attempt, let progress):
            WatchResponse(.progress(job, attempt: attempt, progress)).encode()
        }
    }
}
