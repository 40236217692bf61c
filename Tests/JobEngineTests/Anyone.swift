import JobModel
import JobStore

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
    func jobWithHistory(_ id: JobID, payload: Bool) async throws(StoreError) -> JobRecord? {
        try await jobWithHistory(id, for: .all, payload: payload)
    }

    func list(_ filter: JobFilter, before: Int64?, size: Int) async throws(StoreError) -> JobPage {
        try await list(filter, for: .all, before: before, size: size)
    }

    func cancel(_ id: JobID, note: String) async throws(StoreError) -> JobRecord {
        try await cancel(id, note: note, by: .anyone)
    }

    func setPaused(_ isPaused: Bool, queue: String) async throws(StoreError) {
        try await setPaused(isPaused, queue: queue, by: .anyone)
    }

    func nodes() async throws(StoreError) -> [NodeRecord] {
        try await nodes(for: .all, before: nil, size: 100).items
    }
}
