import Foundation
import JobModel
import JobStore
import Postgres
import Support
import Synchronization
import TestDatabase
import Testing

@testable import JobService

/// Who may enqueue what, and in which order it is checked.
@Suite(.timeLimit(.minutes(2))) struct EnqueueOperationTests {
    private func error(
        _ bench: ServiceBench, _ draft: JobSpecDraft, found: [FieldViolation] = [], by caller: Caller
    ) async -> ServiceError? {
        do {
            _ = try await bench.jobs.enqueue(draft, found: found, by: caller)
            return nil
        } catch {
            return error
        }
    }

    @Test func aJobIsAddedOnce() async throws {
        try await ServiceBench.with { bench in
            let draft = JobSpecDraft.of("a") { $0.idempotencyKey = "key" }
            let first = try await bench.jobs.enqueue(draft, by: .of("a"))
            let second = try await bench.jobs.enqueue(draft, by: .of("a"))
            #expect(first.isNew && !second.isNew && first.job.id == second.job.id)
            #expect(first.job.state == .pending && first.job.spec.userID == "a")
            let changed = JobSpecDraft.of("a") {
                $0.idempotencyKey = "key"
                $0.payload = Array("1".utf8)
            }
            #expect(
                await error(bench, changed, by: .of("a"))
                    == .conflict(first.job.id, .idempotencyKey, index: nil))
        }
    }

    /// The fields, the payload's size, the caller's users, the kind, the quota.
    @Test func theOrderOfTheChecks() async throws {
        var limits = UserQuotas.Limits()
        limits.pendingJobsMax = 1
        try await ServiceBench.with(limits) { bench in
            try await bench.enqueue("a")
            var draft = JobSpecDraft.of("a") {
                $0.kind = "nobody/handles"
                $0.payload = Array(repeating: 0, count: JobLimits.payloadBytesMax + 1)
                $0.contentType = "x/y"
                $0.priority = 101
            }
            let found = [
                FieldViolation(field: "job.labels", reason: .malformed, description: "is not valid UTF-8")
            ]
            guard case .invalid(let violations) = await error(bench, draft, found: found, by: .of("b"))
            else { throw Unexpected() }
            #expect(
                violations == found + [
                    FieldViolation(
                        field: "job.priority", reason: .outOfRange, description: "is not within −100 to 100")
                ])
            draft.priority = 0
            #expect(
                await error(bench, draft, by: .of("b"))
                    == .payloadTooLarge(field: "job.payload", bytes: JobLimits.payloadBytesMax + 1))
            draft.payload = []
            #expect(await error(bench, draft, by: .of("b")) == .userNotAllowed(field: "job.user_id"))
            #expect(
                await error(bench, draft, by: .of("a")) == .unknownKind("nobody/handles", field: "job.kind"))
            draft.kind = "k"
            guard case .quotaExceeded(.pendingJobs, user: "a", _) = await error(bench, draft, by: .of("a"))
            else { throw Unexpected() }
            #expect(try await bench.count("job") == 1)
        }
    }

    /// What the database has to be asked about does not change the answer.
    @Test func kindsOfOtherNodes() async throws {
        try await ServiceBench.with { bench async throws in
            let unknown = JobSpecDraft.of("a") { $0.kind = "missing" }
            for _ in 0..<3 {
                #expect(
                    await error(bench, unknown, by: .root) == .unknownKind("missing", field: "job.kind"))
                #expect(try await bench.enqueue("a") { $0.kind = "other" }.spec.kind == "other")
            }
            #expect(try await bench.count("job") == 3)
        }
    }

    /// What the database is asked while a call waits.
    enum Lookup: String, CaseIterable, Sendable {
        case kind = "node"
        case quota = "live"
    }

    /// Its caller is told that nothing was added, or gets no answer.
    ///
    /// - Parameter isCall: the form that answers without a task where it can, as for a call of gRPC.
    @Test(arguments: Lookup.allCases, [true, false])
    func anEnqueueThatIsCancelledWhileItWaitsAddsNothing(_ lookup: Lookup, isCall: Bool) async throws {
        var limits = UserQuotas.Limits()
        if lookup == .quota { limits.pendingJobsMax = 10 }
        try await ServiceBench.with(limits) { bench in
            let draft = JobSpecDraft.of("a") { if lookup == .kind { $0.kind = "other" } }
            let lock = try Connection(bench.schema.connectionConfiguration())
            try lock.executeScript("BEGIN; LOCK TABLE \(lookup.rawValue) IN ACCESS EXCLUSIVE MODE")
            let enqueue = Task { () async throws -> Enqueued in
                guard isCall else { return try await bench.jobs.enqueue(draft, by: .root) }
                let rest = try bench.jobs.enqueue(draft, by: .root) { _ in
                    Issue.record("completed while the database is asked")
                }
                let found = try #require(rest)
                return try await found()
            }
            let waits = "pg_locks WHERE NOT granted AND relation = '\(lookup.rawValue)'::regclass"
            while try await bench.count(waits) == 0 {}
            enqueue.cancel()
            try lock.executeScript("COMMIT")
            await #expect(throws: ServiceError.cancelled) { try await enqueue.value }
            #expect(try await bench.count("job") == 0)
            // It does not count against the quota.
            for _ in 0..<(limits.pendingJobsMax ?? 1) { _ = try await bench.jobs.enqueue(draft, by: .root) }
        }
    }

    /// Completes exactly once, or never where it throws or leaves the rest to a task.
    @Test func theFormWithoutATaskCompletesOnce() async throws {
        try await ServiceBench.with { bench async throws in
            let kinds: [ExactText] = ["k", "other", "missing", "not a name"]
            let counts = Mutex([Int](repeating: 0, count: kinds.count))
            let answers = AsyncStream.makeStream(of: Bool.self)
            var waiting: [@Sendable () async throws(ServiceError) -> Enqueued] = []
            var wrong = 0
            for (index, kind) in kinds.enumerated() {
                do throws(ServiceError) {
                    let rest = try bench.jobs.enqueue(.of("a") { $0.kind = kind }, by: .root) { result in
                        counts.withLock { $0[index] += 1 }
                        answers.continuation.yield((try? result.get()) != nil)
                    }
                    if let rest { waiting.append(rest) }
                } catch {
                    wrong += 1
                }
            }
            #expect(waiting.count == 2 && wrong == 1)
            #expect(try await waiting[0]().isNew)
            await #expect(throws: ServiceError.unknownKind("missing", field: "job.kind")) {
                try await waiting[1]()
            }
            for await isAdded in answers.stream {
                #expect(isAdded)
                break
            }
            #expect(try await bench.count("job") == 2)
            #expect(counts.withLock { $0 } == [1, 0, 0, 0])
        }
    }

    @Test func aBatchIsAllOrNothing() async throws {
        try await ServiceBench.with { bench in
            func error(_ drafts: [JobSpecDraft], by caller: Caller = .of("a")) async -> ServiceError? {
                do {
                    _ = try await bench.jobs.enqueueBatch(drafts, by: caller)
                    return nil
                } catch {
                    return error
                }
            }
            let good = JobSpecDraft.of("a")
            #expect(
                await error([good, .of("")])
                    == .invalid([
                        FieldViolation(
                            field: "jobs[1].user_id", reason: .required, description: "is required")
                    ]))
            #expect(await error([good, .of("b")]) == .userNotAllowed(field: "jobs[1].user_id"))
            for _ in 0..<2 {
                #expect(
                    await error([good, .of("a") { $0.kind = "other" }, .of("a") { $0.kind = "missing" }])
                        == .unknownKind("missing", field: "jobs[2].kind"))
            }
            let taken = try await bench.enqueue("b").id
            let other = JobSpecDraft.of("a") { $0.jobID = ExactText(taken.description) }
            #expect(await error([good, other]) == .conflict(taken, .jobID, index: 1))
            #expect(try await bench.count("job WHERE user_id = 'a'") == 0)
            let added = try await bench.jobs.enqueueBatch(
                [good, .of("a") { $0.kind = "other" }], by: .of("a"))
            #expect(added.count == 2 && added.allSatisfy(\.isNew))
            #expect(try await bench.count("job WHERE user_id = 'a'") == 2)
        }
    }
}

struct Unexpected: Error {
    private func batchError(_ bench: ServiceBench, _ drafts: [JobSpecDraft]) async -> ServiceError? {
        do {
            _ = try await bench.jobs.enqueueBatch(drafts, by: .of("a"))
            return nil
        } catch {
            return error
        }
    }

    @Test func theSizeOfABatch() async throws {
        try await ServiceBench.with { bench in
            func isRefused(_ drafts: [JobSpecDraft], _ reason: FieldViolation.Reason) async -> Bool {
                guard case .invalid(let violations) = await batchError(bench, drafts) else { return false }
                return violations.map(\.field) == ["jobs"] && violations.map(\.reason) == [reason]
            }
            #expect(await isRefused([], .required))
            let draft = JobSpecDraft.of("a")
            #expect(await isRefused(Array(repeating: draft, count: JobLimits.batchJobsMax + 1), .tooLong))
            let large = JobSpecDraft.of("a") {
                $0.payload = Array(repeating: 0, count: JobLimits.payloadBytesMax)
                $0.contentType = "x/y"
            }
            #expect(await isRefused(Array(repeating: large, count: 5), .tooLong))
            #expect(await batchError(bench, Array(repeating: large, count: 4)) == nil)
        }
    }

    /// The order is that of a single job: the fields of all jobs come before the size of any payload.
    @Test func theOrderOfTheChecksOfABatch() async throws {
        try await ServiceBench.with { bench in
            let large = JobSpecDraft.of("b") {
                $0.payload = Array(repeating: 0, count: JobLimits.payloadBytesMax + 1)
                $0.contentType = "x/y"
            }
            let wrong = JobSpecDraft.of("b") { $0.priority = 101 }
            guard case .invalid(let violations) = await batchError(bench, [large, wrong]) else {
                throw Unexpected()
            }
            #expect(violations.map(\.field) == ["jobs[1].priority"])
            #expect(
                await batchError(bench, [large])
                    == .payloadTooLarge(
                        field: "jobs[0].payload", bytes: JobLimits.payloadBytesMax + 1))
        }
    }

    @Test func watchedJobsAreBounded() async throws {
        try await ServiceBench.with { bench in
            let jobs = (0...JobLimits.watchedJobsMax).map { _ in WatchQuery.Job(id: "\(JobID(UUID()))") }
            do {
                _ = try await bench.watches.begin(WatchQuery(jobs: jobs), by: .of("a"))
                throw Unexpected()
            } catch ServiceError.invalid(let violations) {
                #expect(violations.map(\.field) == ["jobs"] && violations.map(\.reason) == [.tooLong])
            }
        }
    }
}
