import JobModel
import JobStore
import JobWatch

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

    func numbers(of ids: [JobID]) async throws(StoreError) -> [JobID: Int64] {
        try await locators(of: ids, for: .all).mapValues { $0.number }
    }
}

extension ResumeTokens {
    static let test = ResumeTokens(secret: Array(0..<32))
}
