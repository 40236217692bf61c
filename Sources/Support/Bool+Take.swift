extension Bool {
    /// Whether it was set; it is not any more.
    package mutating func take() -> Bool {
        defer { self = false }
        return self
    }
}
