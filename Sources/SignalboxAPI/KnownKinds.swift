// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

import JobModel
package import JobStore
import Synchronization

/// The kinds that some live node handles: only jobs of such a kind are taken.
package final class KnownKinds: Sendable {
    private struct State {
        var memory = KindMemory()
        /// The one statement that is under way, if any.
        var reading: Task<Result<Set<String>, StoreError>, Never>?
    }

    private let store: JobStore
    private let own: Set<String>
    private let state = Mutex(State())

    /// `own`: what this node handles.
    package init(store: JobStore, own: Set<String>) {
        self.store = store
        self.own = own
    }

    /// What is known of a kind without waiting.
    func verdict(on kind: String) -> KindMemory.Verdict {
        own.contains(kind) ? .known : verdict(on: [kind]).verdict
    }

    /// The first of `kinds` that no node handles. One that is not remembered is looked up: its node may
    /// have just come.
    func firstUnknown(_ kinds: some Sequence<String>) async throws(StoreError) -> String? {
        if kinds.allSatisfy(own.contains) { return nil }
        let others = Set(kinds).subtracting(own)
        let (verdict, reading) = verdict(on: others)
        switch verdict {
        case .known, .knownFromBefore: return nil
        case .unknown(let kind): return kind
        case .notRemembered:
            guard let reading else { preconditionFailure("it has just been begun") }
            return others.subtracting(try await reading.value.get()).min()
        }
    }

    private func verdict(
        on others: Set<String>
    ) -> (verdict: KindMemory.Verdict, reading: Task<Result<Set<String>, StoreError>, Never>?) {
        state.withLock { state in
            let verdict = state.memory.verdict(on: others, now: .now)
            // However many calls ask, one statement runs.
            if verdict.asksForReading, state.reading == nil {
                state.reading = Task { await self.read() }
            }
            return (verdict, state.reading)
        }
    }

    private func read() async -> Result<Set<String>, StoreError> {
        // As old as its statement: what has come since may not be in it.
        let startedAt = ContinuousClock.now
        let result: Result<Set<String>, StoreError>
        do {
            result = .success(try await store.liveKinds())
        } catch {
            result = .failure(error)
        }
        state.withLock { state in
            if case .success(let kinds) = result { state.memory.remember(kinds, asOf: startedAt) }
            state.reading = nil
        }
        return result
    }
}

/// What is remembered of the kinds that live nodes handle, and for how long it is good. Pure.
struct KindMemory: Sendable {
    /// How long a kind is taken for granted after it was read.
    static let freshness: Duration = .seconds(5)
    /// How long it still is while it is read again: calls do not wait for that.
    static let staleness: Duration = .seconds(10)
    /// How long it holds that nobody handles a kind. Short, for its node may be about to come; yet a client
    /// that goes on asking for it costs no statement at each call.
    static let unknownness: Duration = .seconds(1)

    enum Verdict: Equatable, Sendable {
        case known
        /// To be read again, without waiting for it.
        case knownFromBefore
        case unknown(String)
        /// To be read.
        case notRemembered

        var asksForReading: Bool {
            switch self {
            case .known, .unknown: false
            case .knownFromBefore, .notRemembered: true
            }
        }
    }

    private var kinds: Set<String> = []
    private var readAt: ContinuousClock.Instant?

    mutating func remember(_ kinds: Set<String>, asOf readAt: ContinuousClock.Instant) {
        self.kinds = kinds
        self.readAt = readAt
    }

    func verdict(on asked: Set<String>, now: ContinuousClock.Instant) -> Verdict {
        guard let age = readAt?.duration(to: now) else { return .notRemembered }
        if let unknown = asked.subtracting(kinds).min() {
            return age < Self.unknownness ? .unknown(unknown) : .notRemembered
        }
        if age < Self.freshness { return .known }
        return age < Self.staleness ? .knownFromBefore : .notRemembered
    }
}
