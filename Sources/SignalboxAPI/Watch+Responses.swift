import JobModel
import JobService
import SignalboxProto
import NIOCore
package import GRPC
import Support

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
        case .opened(let isResumed, let heartbeatInterval):
            WatchResponse(.opened(resumed: isResumed, heartbeatInterval: heartbeatInterval)).encode()
        case .heartbeat(let at, let token):
            WatchResponse(.heartbeat(at: at), resumeToken: ExactText(token ?? "")).encode()
        case .snapshotsComplete(let token):
            WatchResponse(.snapshotsComplete, resumeToken: ExactText(token ?? "")).encode()
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
        case .removed: WatchResponse(.removed(job)).encode()
        }
    }
}
