import JobModel
import JobStore
import Support

/// The jobs that a watch is of.
enum WatchTarget: Sendable, Equatable {
    /// Jobs that its caller has named, and that were looked up for the caller already.
    case jobs
    /// All jobs of a user, of a queue or of both, as far as they are of `users`, for whom the caller may act. Stored on
    /// the heap, because most watches are of named jobs.
    indirect case all(userID: ExactText?, queue: String?, users: UserScope)

    /// The users whose jobs the watch may report.
    var users: UserScope {
        switch self {
        case .jobs: .all
        case .all(let userID?, _, let users): users.contains(userID) ? .only([userID]) : .only([])
        case .all(nil, _, let users): users
        }
    }

    /// Whether the jobs of a lane belong to it. Named jobs are not found by their lane.
    func includes(_ lane: LaneName) -> Bool {
        guard case .all(let userID, let queue, let users) = self else { return false }
        return (userID == nil || userID == lane.userID) && (queue == nil || queue == lane.queue)
            && users.contains(lane.userID)
    }
}
