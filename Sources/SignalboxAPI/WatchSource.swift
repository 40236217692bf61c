import JobModel
package import JobWatch
import SignalboxProto
import JobStore
import NIOCore
package import GRPC
import Synchronization

/// A watch whose state is sent, and which follows from there on.
extension Subscription: ResponseSource {
    package func next() -> ResponseStep {
        switch take() {
        case .heartbeat: .message(WatchResponse.heartbeat(at: .now, snapshotComplete: false).encode())
        case .over: .end(Status(.unavailable, "this server is shutting down: connect again"))
        case .action(.tell(let news)): .message(news.message(namesNode: namesNodes))
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
        for (id, sequence) in sequences {
            if let number = numbers[id] { wanted[number] = sequence }
        }
        let events = try await feed.store.events(after: wanted)
        // There is nothing more of a job that has been removed.
        let byID = sequences.keys.map { [numbers] id in (id, numbers[id].flatMap { events[$0] } ?? []) }
        caughtUp(Dictionary(uniqueKeysWithValues: byID))
    }
}

extension WatchResponse {
    /// - Parameter namesNode: whether it says on which node the job runs.
    init(_ event: JobEvent, namesNode: Bool) {
        var event = event
        if !namesNode { event.node = nil }
        self = .lifecycle(event)
    }
}

extension JobNews {
    /// The message of some news, which all its watches share: those that may be told of nodes one, the others another.
    private final class Encoded: Sendable {
        let namesNode: Bool
        let bytes: ByteBuffer
        let other = AtomicLazyReference<Encoded>()

        init(_ news: JobNews, namesNode: Bool) {
            self.namesNode = namesNode
            bytes = news.response(namesNode: namesNode).encode()
        }
    }

    fileprivate func message(namesNode: Bool) -> ByteBuffer {
        // Nobody else makes anything of news.
        guard let first = product({ Encoded($0, namesNode: namesNode) }) as? Encoded else {
            return response(namesNode: namesNode).encode()
        }
        if first.namesNode == namesNode || !hasNode { return first.bytes }
        return (first.other.load() ?? first.other.storeIfNil(Encoded(self, namesNode: namesNode))).bytes
    }

    private var hasNode: Bool {
        if case .event(let event) = content { event.node != nil } else { false }
    }

    private func response(namesNode: Bool) -> WatchResponse {
        switch content {
        case .event(let event): WatchResponse(event, namesNode: namesNode)
        case .progress(let attempt, let progress): .progress(job, attempt: attempt, progress)
        }
    }
}
