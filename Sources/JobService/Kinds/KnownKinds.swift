// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

import JobModel
package import JobStore
import Synchronization

/// The kinds that at least one live node handles. A job of another kind is refused.
package final class KnownKinds: Sendable {
    private struct State {
        var memory = KindMemory()
        /// The statement in flight, if there is one. All who need its answer share it.
        var reading: Task<Result<Set<String>, StoreError>, Never>?
    }

    private let store: JobStore
    private let isOwn: @Sendable (String) -> Bool
    private let state = Mutex(State())

    /// - Parameter isOwn: whether this node handles a kind now, because its runners come and go. It must not block.
    package init(store: JobStore, isOwn: @escaping @Sendable (String) -> Bool) {
        self.store = store
        self.isOwn = isOwn
    }

    /// Whether the kind is known to be handled. False: the database has to be asked (`admit`). Throws `unknownKind`, for
    /// the field that names the kind, if no node handles it.
    func admitAtOnce(_ kind: String, _ field: @autoclosure () -> String) throws(ServiceError) -> Bool {
        if isOwn(kind) { return true }
        switch ask(about: [kind]).verdict {
        case .known, .knownFromBefore: return true
        case .unknown: throw .unknownKind(kind, field: field())
        case .notRemembered: return false
        }
    }

    /// Throws `unknownKind` if no node handles one of the kinds. A kind that is not remembered is looked up in the
    /// database, because its node may have just started. Throws `cancelled` if the task is cancelled before the answer.
    ///
    /// - Parameter field: the field that names the kind at an index.
    func admit(_ kinds: [String], field: (Int) -> String) async throws(ServiceError) {
        let others = Set(kinds).filter { !isOwn($0) }
        if others.isEmpty { return }
        let (verdict, reading) = ask(about: others)
        let unknown: String?
        switch verdict {
        case .known, .knownFromBefore: unknown = nil
        case .unknown(let kind): unknown = kind
        case .notRemembered:
            guard let reading else { preconditionFailure("the reading has just been started") }
            let found = await reading.value
            if Task.isCancelled { throw .cancelled }
            switch found {
            case .success(let found): unknown = others.subtracting(found).min()
            case .failure(let error): throw ServiceError(error)
            }
        }
        guard let unknown else { return }
        throw .unknownKind(unknown, field: field(kinds.firstIndex(of: unknown) ?? 0))
    }

    /// The verdict on kinds that are not this node's own, from memory. Starts a reading where one is needed and none is in
    /// flight.
    private func ask(
        about others: Set<String>
    ) -> (verdict: KindMemory.Verdict, reading: Task<Result<Set<String>, StoreError>, Never>?) {
        state.withLock { state in
            let verdict = state.memory.verdict(on: others, now: .now)
            if verdict.asksForReading, state.reading == nil {
                state.reading = Task { await self.read() }
            }
            return (verdict, state.reading)
        }
    }

    private func read() async -> Result<Set<String>, StoreError> {
        // The answer is as old as its statement: a node that has started since may be missing in it.
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
