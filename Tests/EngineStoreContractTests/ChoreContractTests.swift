import JobModel
import Testing

@Suite struct ChoreContractTests {
    @Test(arguments: Implementation.allCases)
    func dueJobsBecomeReady(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(10_000_000)) { bench in
            let store = bench.one.store
            #expect(try await store.promoteDue() == (0, nil))
            let soon = try await bench.enqueue { $0.due = .after(.seconds(100_000)) }
            let later = try await bench.enqueue { $0.due = .after(.seconds(500_000)) }
            #expect(try await bench.one.claim().runs.isEmpty)
            let early = try await store.promoteDue()
            let next = try #require(early.next)
            #expect(early.promoted == 0 && next > .seconds(90_000) && next <= .seconds(100_000))
            try await bench.cluster.pass(.seconds(100_001))
            // It is due, but has to be promoted first.
            #expect(try await bench.one.claim().runs.isEmpty)
            let due = try await store.promoteDue()
            #expect(due.promoted == 1)
            #expect(try #require(due.next) > .seconds(390_000))
            #expect(try await bench.one.claim().runs.map(\.key.id) == [soon.id])
            try await store.requestCancel(later.id, note: "", for: .all)
            #expect(try await store.promoteDue() == (0, nil))
        }
    }

    @Test(arguments: Implementation.allCases)
    func oldFinalJobsAreRemovedOldestFirst(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(10_000_000)) { bench in
            let store = bench.one.store
            var ids: [JobID] = []
            for _ in 0..<3 {
                let run = try await bench.start()
                try await bench.one.finish(run, .success)
                ids.append(run.key.id)
                try await bench.cluster.pass(.seconds(10_000))
            }
            let live = try await bench.start()
            #expect(try await store.removeFinished(olderThan: .seconds(100_000), atMost: 10) == 0)
            #expect(try await store.removeFinished(olderThan: .seconds(15_000), atMost: 1) == 1)
            #expect(try await store.record(ids[0]) == nil)
            #expect(try await store.removeFinished(olderThan: .seconds(15_000), atMost: 10) == 1)
            #expect(try await store.removeFinished(olderThan: .seconds(15_000), atMost: 10) == 0)
            #expect(try await store.record(ids[1]) == nil)
            #expect(try await bench.record(ids[2]).state == .succeeded)
            #expect(try await bench.record(live.key.id).state == .running)
        }
    }

    @Test(arguments: Implementation.allCases)
    func dueJobsBecomeReadyAThousandAtATime(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(10_000_000)) { bench in
            for _ in 0..<1001 { try await bench.enqueue { $0.due = .after(.seconds(10_000)) } }
            try await bench.cluster.pass(.seconds(10_001))
            let first = try await bench.one.store.promoteDue()
            #expect(first.promoted == 1000 && first.next == .zero)
            let second = try await bench.one.store.promoteDue()
            #expect(second.promoted == 1 && second.next == nil)
        }
    }

    /// A client's call that changes nothing has no entry.
    @Test(arguments: Implementation.allCases)
    func oldAuditEntriesAreRemovedOldestFirst(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(10_000_000)) { bench in
            let store = bench.one.store
            let job = try await bench.enqueue()
            try await bench.cluster.pass(.seconds(10_000))
            try await store.requestCancel(job.id, note: "", for: .all)
            try await store.requestCancel(job.id, note: "", for: .all)
            try await bench.cluster.pass(.seconds(10_000))
            try await store.requestRetry(job.id, for: .all)
            try await bench.cluster.pass(.seconds(10_000))
            #expect(try await store.trimAudit(olderThan: .seconds(35_000), atMost: 10) == 0)
            #expect(try await store.trimAudit(olderThan: .seconds(15_000), atMost: 1) == 1)
            #expect(try await store.trimAudit(olderThan: .seconds(25_000), atMost: 10) == 0)
            #expect(try await store.trimAudit(olderThan: .seconds(15_000), atMost: 10) == 1)
            #expect(try await store.trimAudit(olderThan: .seconds(5_000), atMost: 10) == 1)
            #expect(try await bench.record(job.id).state == .pending)
        }
    }

    /// The log is read through `JobStore` alone, whose tests say what is removed.
    @Test(arguments: Implementation.allCases)
    func trimmingTheChangeLogHoldsUpNothing(_ implementation: Implementation) async throws {
        try await ContractBench.with(implementation, lease: .seconds(10_000_000)) { bench in
            let job = try await bench.enqueue()
            try await bench.cluster.pass(.seconds(10_000))
            try await bench.one.store.trimChanges()
            #expect(try await bench.record(job.id).state == .pending)
        }
    }
}
