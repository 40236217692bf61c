import Synchronization

/// A reference that is set once both ends exist.
final class Link<Target: AnyObject & Sendable>: Sendable {
    private let target = Mutex<Target?>(nil)

    var value: Target? {
        get { target.withLock { $0 } }
        set { target.withLock { $0 = newValue } }
    }
}
