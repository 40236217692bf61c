import JobModel
import Support

extension Caller {
    /// Throws `userNotAllowed` where the caller may not act for the user that `field` names.
    func check(_ userID: ExactText, _ field: String) throws(ServiceError) {
        guard users.contains(userID) else { throw .userNotAllowed(field: field) }
    }
}

extension JobRecord {
    /// Removes what the caller may not see: the result without the scope `jobs.read`, and the names of nodes without
    /// `admin`. An operation that changes a job may return one that was there before, or is over, and has a result.
    mutating func hide(from caller: Caller) {
        if !caller.mayRead { result = nil }
        if !caller.seesNodes {
            for index in attempts.indices { attempts[index].node = "" }
        }
    }

    /// The job without what the caller may not see.
    func visible(to caller: Caller) -> JobRecord {
        var job = self
        job.hide(from: caller)
        return job
    }
}
