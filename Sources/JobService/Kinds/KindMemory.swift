// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

/// A cache of the kinds that live nodes handle: what may be concluded from the last reading, by its age. Pure.
struct KindMemory: Sendable {
    /// The time for which a kind counts as handled after it was read.
    static let freshness: Duration = .seconds(5)
    /// The time for which a kind still counts as handled while it is read again, so that calls do not wait for the read.
    static let staleness: Duration = .seconds(10)
    /// The time for which a kind counts as unknown. It is short because the kind's node may be about to start, and not zero
    /// so that a client that goes on using an unknown kind does not cost a statement at each call.
    static let unknownness: Duration = .seconds(1)

    enum Verdict: Equatable, Sendable {
        case known
        /// The kind is known, and is to be read again without waiting for the answer.
        case knownFromBefore
        case unknown(String)
        /// The kinds are to be read first.
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

    /// With several unknown kinds, `unknown` names the first in alphabetical order.
    func verdict(on asked: Set<String>, now: ContinuousClock.Instant) -> Verdict {
        guard let age = readAt?.duration(to: now) else { return .notRemembered }
        if let unknown = asked.subtracting(kinds).min() {
            return age < Self.unknownness ? .unknown(unknown) : .notRemembered
        }
        if age < Self.freshness { return .known }
        return age < Self.staleness ? .knownFromBefore : .notRemembered
    }
}
