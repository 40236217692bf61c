internal import Synchronization

/// Something of which all connections together may have only so much.
final class SharedBudget: Sendable {
    private let max: Int
    private let used = Atomic(0)

    init(max: Int) {
        self.max = max
    }

    /// Takes so much, or gives it back. False: it is more than there is; it is taken all the same, and is to be given back
    /// soon.
    func take(_ change: Int) -> Bool {
        used.add(change, ordering: .relaxed).newValue <= max || change <= 0
    }
}
