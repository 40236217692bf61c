package import GRPC
import SignalboxJobs
package import SignalboxProto
import Support

/// Whether and when a call, or the connection of a watch, is tried again. Pure: times and random numbers come in.
struct CallRetry {
    /// A server may ask for a longer delay than the client's own, but for no more than this.
    static let askedDelayMax = Duration.seconds(60)

    private var backoff: Backoff
    private let deadline: ContinuousClock.Instant

    /// - Parameter deadline: a delay never reaches past it.
    init(_ retry: SignalboxClient.Retry, deadline: ContinuousClock.Instant) {
        backoff = Backoff(retry)
        self.deadline = deadline
    }

    /// Nil: the status is the outcome of the call.
    mutating func delay(
        after status: Status, now: ContinuousClock.Instant, random: Double = .random(in: 0..<1)
    ) -> Duration? {
        guard status.code == .unavailable else { return nil }
        let delay = max(backoff.next(random: random), min(status.retryDelay ?? .zero, Self.askedDelayMax))
        return now + delay < deadline ? delay : nil
    }
}

/// Whether and when a watch connects again. Pure: times and random numbers come in.
package struct WatchRetry: Sendable {
    private var backoff: Backoff
    private let patience: Duration
    /// Each connection has a new token: the end of one that was good is not the end of the watch.
    private let renewsToken: Bool
    /// The server has had this watch before.
    private var wasOpen = false
    /// This connection has brought a message.
    private var hasHeard = false
    private var silentSince: ContinuousClock.Instant
    /// The server has ended the watch with an error of its own since then, and no event has come in between: it may do so
    /// each time, for example because of an event that it cannot read.
    private var failsSince: ContinuousClock.Instant?

    package init(
        _ retry: SignalboxClient.Retry, patience: Duration, renewsToken: Bool, now: ContinuousClock.Instant
    ) {
        backoff = Backoff(retry)
        self.patience = patience
        self.renewsToken = renewsToken
        silentSince = now
    }

    package mutating func connects() { hasHeard = false }

    package mutating func receives(_ event: WatchEvent, now: ContinuousClock.Instant) {
        (wasOpen, hasHeard) = (true, true)
        switch event {
        // Each connection begins with it, also one that fails at once.
        case .opened: return
        // They do not show that the watch gets on, because each connection may bring them again.
        case .snapshot, .snapshotsComplete, .removed, .other: break
        case .progress, .log, .heartbeat: backoff.reset()
        case .lifecycle:
            backoff.reset()
            failsSince = nil
        }
        silentSince = now
    }

    /// Nil: the status is the end of the watch.
    package mutating func delay(
        after status: Status, now: ContinuousClock.Instant, random: Double = .random(in: 0..<1)
    ) -> Duration? {
        guard now - silentSince < patience else { return nil }
        if [.internalError, .unknown].contains(status.code) {
            let since = failsSince ?? now
            failsSince = since
            guard now - since < patience else { return nil }
        }
        let tokenHasExpired = status.code == .unauthenticated && renewsToken && hasHeard
        guard tokenHasExpired || !status.isPermanent else { return nil }
        // A watch over the quota is refused at once. Later the server may still count the connection that was lost.
        guard status.code != .resourceExhausted || wasOpen else { return nil }
        return max(
            backoff.next(random: random), min(status.retryDelay ?? .zero, CallRetry.askedDelayMax))
    }
}

extension Backoff {
    fileprivate init(_ retry: SignalboxClient.Retry) {
        let initial = max(retry.initialDelay, .milliseconds(1))
        self.init(initial: initial, most: max(retry.maxDelay, initial))
    }
}

extension Status {
    package var decodedDetails: StatusDetails? { details.isEmpty ? nil : try? StatusDetails.decode(details) }
    package var retryDelay: Duration? { decodedDetails?.retryDelay }
}
