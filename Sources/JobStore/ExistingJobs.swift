import JobModel
import Postgres
import Support

/// A job that a client enqueued again. The call is answered with the job in its present state.
struct ExistingJob: Sendable {
    let id: JobID
    /// The user of both requests.
    let userID: ExactText

    /// The limits of a batch. Each job may have a result of 1 MiB, and the results of one batch are in memory at
    /// once.
    static var limits: GroupCommit<ExistingJob, JobRecord>.Limits {
        var limits = GroupCommit<ExistingJob, JobRecord>.Limits()
        limits.batchItemsMax = 64
        return limits
    }
}

extension JobStore {
    /// Reads the job of an earlier request with the same content as `job`. Many calls share a statement, so that repeated
    /// requests do not take a connection each.
    func readExisting(
        _ id: JobID, for job: NewJob, completion: @escaping @Sendable (Result<JobRecord, StoreError>) -> Void
    ) {
        let wanted = ExistingJob(id: id, userID: job.spec.userID)
        let startReader = {
            self.startWriter(self.existingJobs) { [self] wanted, connection throws(PostgresError) in
                try records(wanted, connection)
            }
        }
        existingJobs.submit(wanted, startWriter: startReader, completion: completion)
    }

    private func records(
        _ wanted: [ExistingJob], _ connection: Connection
    ) throws(PostgresError) -> [Result<JobRecord, StoreError>] {
        let users = UserScope.only(Set(wanted.map(\.userID)))
        var records: [JobID: JobRecord] = [:]
        for record in try Self.jobs(
            Array(Set(wanted.map(\.id))), for: users, resultBytesMax: JobLimits.resultBytesMax, connection)
        {
            records[record.id] = record
        }
        return wanted.map { wanted in
            guard let record = records[wanted.id], record.spec.userID == wanted.userID else {
                return .failure(Self.vanished)
            }
            return .success(record)
        }
    }
}
