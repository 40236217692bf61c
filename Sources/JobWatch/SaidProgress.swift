import JobModel

/// Which progress all watches of its job have already, so that none of them is told again when it is saved.
///
/// Of watched jobs of this node's runs only, which say all that they save. What this does not know is told again, and
/// each watch leaves out what it has.
struct SaidProgress: Sendable {
    private struct Latest {
        var attempt: Int
        var at: Timestamp
        var isWithAll = false
    }

    private var latest: [Int64: Latest] = [:]

    /// It is about to be told to all who watch now.
    mutating func say(_ at: Timestamp, attempt: Int, of job: Int64) {
        latest[job] = Latest(attempt: attempt, at: at)
    }

    /// All of them will send it, or what is said later; unless another watch has begun meanwhile.
    mutating func isWithAll(_ at: Timestamp, of job: Int64) {
        if latest[job]?.at == at { latest[job]?.isWithAll = true }
    }

    /// It is saved.
    ///
    /// - Returns: Whether all watches have it, or a later one.
    mutating func save(_ at: Timestamp, attempt: Int, of job: Int64) -> Bool {
        guard let said = latest[job], said.attempt == attempt, at <= said.at else { return false }
        if at == said.at { latest[job] = nil }
        return said.isWithAll
    }

    /// A watch of the job begins, or the last one has ended.
    mutating func forget(_ job: Int64) {
        latest[job] = nil
    }
}
