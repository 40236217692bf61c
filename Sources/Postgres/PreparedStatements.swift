/// Which statements this connection has prepared, and under which names.
///
/// A statement used with other parameter types counts as another. Names are never used twice on a connection,
/// and no more than `countMax` are given out, so that neither side grows without bound; later statements are
/// parsed each time.
struct PreparedStatements {
    static let countMax = 512

    struct Key: Hashable {
        let statement: Statement
        let types: [UInt32]

        func hash(into hasher: inout Hasher) {
            hasher.combine(statement)
        }
    }

    enum Lookup {
        case prepared(name: String)
        /// Parse it under this name first.
        case new(name: String)
        /// Run it without a name.
        case unprepared
    }

    private var names: [Key: String] = [:]
    private var namesGiven = 0

    mutating func lookUp(_ key: Key) -> Lookup {
        guard let name = key.statement.name else { return .unprepared }
        if let known = names[key] { return .prepared(name: known) }
        guard namesGiven < Self.countMax else { return .unprepared }
        namesGiven += 1
        let new = "\(name)_\(namesGiven)"
        names[key] = new
        return .new(name: new)
    }

    /// It was not prepared after all, or does not work any more.
    mutating func forget(_ key: Key) {
        names[key] = nil
    }
}
