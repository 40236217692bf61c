/// The statements that this connection has prepared, with their names.
///
/// A statement is prepared once for each list of parameter types. Names are never reused on a connection,
/// and at most `countMax` are given out, so that neither side grows without bound. Later statements are parsed
/// each time.
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
        /// The statement is to be parsed under this name first.
        case new(name: String)
        /// The statement is to be run without a name.
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

    /// Forgets a statement that failed to be prepared, or that does not work any more.
    mutating func forget(_ key: Key) {
        names[key] = nil
    }
}
