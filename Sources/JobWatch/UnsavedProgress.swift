import JobModel

/// Deduplicates progress: what all watches of a job have received before it was saved is not published to them again when
/// it is saved. Best effort: each watch drops what it already has.
///
/// It holds the latest progress of watched jobs that run on this node, and no other.
///
/// Progress cannot simply be published once, before it is saved. A watch that begins between the report and the save has
/// not received it and reads the state without it; a watch that still has to read events of the job may drop it, because
/// one of them may end the attempt; and the run may be the last to report for a long time. So it is published again once
/// it is saved, unless it is known here that every watch has it. Nor can the change log be left to other nodes' progress:
/// a watch of a user or a queue learns of a job from the log, and drops what was published of the job before.
struct UnsavedProgress: Sendable {
    private struct Latest {
        var attempt: Int
        var at: Timestamp
        var allHaveIt = false
    }

    private var latest: [Int64: Latest] = [:]

    /// It is about to be published to the watches that there are now.
    mutating func publish(_ at: Timestamp, attempt: Int, of job: Int64) {
        latest[job] = Latest(attempt: attempt, at: at)
    }

    /// All watches will send it, or what is reported later. Has no effect if a watch has begun meanwhile.
    mutating func allHave(_ at: Timestamp, of job: Int64) {
        if latest[job]?.at == at { latest[job]?.allHaveIt = true }
    }

    /// It is saved.
    ///
    /// - Returns: whether all watches have it, or later progress.
    mutating func save(_ at: Timestamp, attempt: Int, of job: Int64) -> Bool {
        guard let published = latest[job], published.attempt == attempt, at <= published.at else {
            return false
        }
        if at == published.at { latest[job] = nil }
        return published.allHaveIt
    }

    /// A watch of the job begins, or the last one has ended.
    mutating func forget(_ job: Int64) {
        latest[job] = nil
    }
}
