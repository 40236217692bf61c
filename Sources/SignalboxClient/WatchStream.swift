package import GRPC
package import NIOCore
import Synchronization

/// The messages of one connection of a watch. It ends the call if the server has sent nothing for too long, because a lost
/// connection can otherwise look like a quiet one for hours.
package final class WatchStream: Sendable {
    private struct State {
        /// When the reader began to wait for the message that it waits for now.
        var waitingSince: ContinuousClock.Instant?
        var timer: Task<Void, any Error>?
        /// The time without a message for which the call was ended; nil: it ended for another reason.
        var silence: Duration?
    }

    private let messages: ResponseStream
    private let state = Mutex(State())

    /// - Parameter silence: the time without a message after which the call is ended, until `expectHeartbeats` says
    ///   otherwise. Positive.
    package init(_ messages: ResponseStream, silence: Duration = .seconds(45)) {
        self.messages = messages
        expectHeartbeats(every: silence / 3)
    }

    deinit {
        state.withLock { $0.timer }?.cancel()
    }

    /// The next message; nil when the server has ended the watch. For one reader.
    ///
    /// Throws the call's `Status`, and `unavailable` if nothing has come for too long.
    package func next() async throws -> ByteBuffer? {
        state.withLock { $0.waitingSince = .now }
        defer { state.withLock { $0.waitingSince = nil } }
        var iterator = messages.makeAsyncIterator()
        do {
            return try await iterator.next()
        } catch let status as Status {
            guard let silence = state.withLock({ $0.silence }) else { throw status }
            throw Status(.unavailable, "the server has sent nothing for \(silence)")
        }
    }

    /// Ends the call when the reader has waited for a message for three of these intervals. It is noticed within one more.
    ///
    /// - Parameter interval: positive.
    package func expectHeartbeats(every interval: Duration) {
        let timer = Task { [weak self] in
            while true {
                try await Task.sleep(for: interval)
                guard let self, !endIfSilent(for: interval * 3) else { return }
            }
        }
        state.withLock { state in
            let before = state.timer
            state.timer = timer
            return before
        }?.cancel()
    }

    private func endIfSilent(for limit: Duration) -> Bool {
        let isSilent = state.withLock { state in
            guard let since = state.waitingSince, since.duration(to: .now) >= limit else { return false }
            state.silence = limit
            return true
        }
        if isSilent { messages.cancel() }
        return isSilent
    }
}
