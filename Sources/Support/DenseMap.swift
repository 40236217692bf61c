/// A dictionary whose values lie in one array, for maps that are walked far more often than they are changed.
///
/// To insert, to remove and to look up take constant time. The order of the values depends on nothing but the order of
/// the changes: a removed value's slot is taken by the last one.
@usableFromInline
package struct DenseMap<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    @usableFromInline var storage: [Value] = []
    @inlinable package var values: [Value] { storage }
    /// The key of each value.
    @usableFromInline var keys: [Key] = []
    @usableFromInline var indices: [Key: Int] = [:]

    @inlinable package init() {}

    @inlinable package var count: Int { storage.count }
    @inlinable package var isEmpty: Bool { storage.isEmpty }

    @inlinable package subscript(key: Key) -> Value? {
        get { indices[key].map { storage[$0] } }
        set {
            if let newValue {
                insert(newValue, for: key)
            } else {
                remove(key)
            }
        }
    }

    @inlinable mutating func insert(_ value: Value, for key: Key) {
        if let index = indices[key] {
            storage[index] = value
        } else {
            indices[key] = storage.count
            storage.append(value)
            keys.append(key)
        }
    }

    @inlinable mutating func remove(_ key: Key) {
        guard let index = indices.removeValue(forKey: key) else { return }
        let last = (value: storage.removeLast(), key: keys.removeLast())
        guard index < storage.count else { return }
        storage[index] = last.value
        keys[index] = last.key
        indices[last.key] = index
    }
}
