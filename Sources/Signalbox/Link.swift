import Synchronization

/// A reference that is set once both ends exist. Weak, for the other end holds this one.
final class Link<Target: AnyObject & Sendable>: Sendable {
    private struct Reference {
        weak var target: Target?
    }

    private let reference = Mutex(Reference())

    var value: Target? {
        get { reference.withLock { $0.target } }
        set { reference.withLock { $0.target = newValue } }
    }
}
