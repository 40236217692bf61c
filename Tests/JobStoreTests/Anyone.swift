import JobModel
import Support

@testable import JobStore

// What a caller asks for that may act for all.

extension Caller {
    static let anyone = Caller(name: "anyone", source: .token, address: "127.0.0.1:1", users: .all)
}

extension NewJob {
    convenience init(spec: JobSpec, now: Timestamp) {
        self.init(spec: spec, now: now, by: .anyone)
    }
}

extension JobStore {
    func job(_ id: JobID) async throws(StoreError) -> JobRecord? { try await job(id, for: .all) }

    func jobWithHistory(_ id: JobID, payload: Bool) async throws(StoreError) -> JobRecord? {
        try await jobWithHistory(id, for: .all, payload: payload)
    }

    func jobs(_ ids: [JobID], resultBytesMax: Int) async throws(StoreError) -> [JobRecord] {
        try await jobs(ids, for: .all, resultBytesMax: resultBytesMax)
    }

    func numbers(of ids: [JobID]) async throws(StoreError) -> [JobID: Int64] {
        try await locators(of: ids, for: .all).mapValues { $0.number }
    }

    func list(_ filter: JobFilter, before: Int64?, size: Int) async throws(StoreError) -> JobPage {
        try await list(filter, for: .all, before: before, size: size)
    }

    func cancel(_ id: JobID, note: String) async throws(StoreError) -> JobRecord {
        try await cancel(id, note: note, by: .anyone)
    }

    func retry(_ id: JobID) async throws(StoreError) -> JobRecord { try await retry(id, by: .anyone) }

    func setPaused(_ isPaused: Bool, queue: String) async throws(StoreError) {
        try await setPaused(isPaused, queue: queue, by: .anyone)
    }

    func setQueueLimit(_ limit: Int, queue: String) async throws(StoreError) {
        try await setQueueLimit(limit, queue: queue, by: .anyone)
    }

    func setUserLimit(_ limit: Int?, userID: ExactText, queue: String) async throws(StoreError) {
        try await setUserLimit(limit, userID: userID, queue: queue, by: .anyone)
    }

    func nodes() async throws(StoreError) -> [NodeRecord] {
        try await nodes(for: .all, before: nil, size: 100).items
    }

    /// All queues with their numbers.
    func countedQueues() async throws(StoreError) -> [QueueRecord] {
        try await queues(after: nil, size: 100, stats: true).items
    }
}

extension JobStore {
    /// A page of a snapshot with its jobs.
    func snapshotJobs(
        of users: UserScope, queue: String?, after: Int64, scannedMax: Int64 = 50_000
    ) async throws(StoreError) -> JobPage {
        let page = try await snapshot(of: users, queue: queue, after: after, scannedMax: scannedMax)
        return JobPage(jobs: try await liveJobs(page.numbers), next: page.next)
    }
}
