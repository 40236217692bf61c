package import JobStore
import Synchronization

/// The kinds that some live node handles: only jobs of such a kind are taken.
package final class KnownKinds: Sendable {
    /// How long a kind is taken for granted after its node was last seen.
    private static let freshness: Duration = .seconds(5)

    private struct State {
        var kinds: Set<String> = []
        var readAt: ContinuousClock.Instant?
    }

    private let store: JobStore
    private let own: Set<String>
    private let state = Mutex(State())

    /// `own`: what this node handles.
    package init(store: JobStore, own: Set<String>) {
        self.store = store
        self.own = own
    }

    /// The first of `kinds` that no node handles. One that is not remembered is looked up: its node may
    /// have just come.
    func firstUnknown(_ kinds: some Sequence<String>) async throws(StoreError) -> String? {
        let others = Set(kinds).subtracting(own)
        guard !others.isEmpty else { return nil }
        let isKnown = state.withLock { state in
            guard let readAt = state.readAt, readAt.duration(to: .now) < Self.freshness else { return false }
            return others.isSubset(of: state.kinds)
        }
        if isKnown { return nil }
        let live = try await store.liveKinds()
        state.withLock { $0 = State(kinds: live, readAt: .now) }
        return others.subtracting(live).min()
    }
}
