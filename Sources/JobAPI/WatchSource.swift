import JobCore
package import JobFeed
import JobMessages
import JobStore
import NIOCore
package import RPC

/// A watch whose state is sent, and which follows from there on.
extension Subscription: ResponseSource {
    package func next() -> ResponseStep {
        switch take() {
        case .heartbeat: .message(WatchResponse.heartbeat(at: .now, snapshotComplete: false).encode())
        case .over: .end(Status(.unavailable, "this server is shutting down: connect again"))
        case .action(.tell(let news)): .message(news.message)
        case .action(.sendLog(let id, let lines)): .message(WatchResponse.log(id, lines).encode())
        case .action(.read(let sequences)): .work { try await self.read(sequences) }
        case .action(.end): .end(nil)
        case .action(.overflow):
            .end(Status(.aborted, "the reader is too slow for this watch: start it again"))
        case .action(.wait): .wait
        }
    }

    private func read(_ sequences: [JobID: Int64]) async throws {
        var numbers = numbers
        // A watch of a user or a queue learns of its jobs as it goes.
        let unknown = sequences.keys.filter { numbers[$0] == nil }
        if !unknown.isEmpty {
            let places = try await feed.store.places(of: unknown, for: users)
            numbers.merge(places.mapValues { $0.number }) { known, _ in known }
        }
        var wanted: [Int64: Int64] = [:]
        for (id, sequence) in sequences { wanted[numbers[id] ?? 0] = sequence }
        let events = try await feed.store.events(after: wanted)
        let byID = sequences.keys.map { [numbers] in ($0, events[numbers[$0] ?? 0] ?? []) }
        caughtUp(Dictionary(uniqueKeysWithValues: byID))
    }
}

extension JobNews {
    /// The message of some news, which all its watches share.
    private final class Encoded: Sendable {
        let bytes: ByteBuffer

        init(_ response: WatchResponse) {
            bytes = response.encode()
        }
    }

    fileprivate var message: ByteBuffer {
        let encoded = product { Encoded($0.response) }
        // Nobody else makes anything of news.
        return (encoded as? Encoded)?.bytes ?? response.encode()
    }

    private var response: WatchResponse {
        switch content {
        case .event(let event): .lifecycle(event)
        case .progress(let attempt, let progress): .progress(job, attempt: attempt, progress)
        }
    }
}
