/// A dictionary whose values lie in one array, for maps that are walked far more often than they are changed.
///
/// To insert, to remove and to look up take constant time. The order of the values depends on nothing but the order of
/// the changes: a removed value's slot is taken by the last one.
package struct DenseMap<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    package private(set) var values: [Value] = []
    /// The key of each value.
    private var keys: [Key] = []
    private var indices: [Key: Int] = [:]

    package init() {}

    package var count: Int { values.count }
    package var isEmpty: Bool { values.isEmpty }

    package subscript(key: Key) -> Value? {
        get { indices[key].map { values[$0] } }
        set {
            if let newValue {
                insert(newValue, for: key)
            } else {
                remove(key)
            }
        }
    }

    private mutating func insert(_ value: Value, for key: Key) {
        if let index = indices[key] {
            values[index] = value
        } else {
            indices[key] = values.count
            values.append(value)
            keys.append(key)
        }
    }

    private mutating func remove(_ key: Key) {
        guard let index = indices.removeValue(forKey: key) else { return }
        let last = (value: values.removeLast(), key: keys.removeLast())
        guard index < values.count else { return }
        values[index] = last.value
        keys[index] = last.key
        indices[last.key] = index
    }
}
