import Foundation
import JobModel
import JobStore
import JobEngine
import TestDatabase
import Testing

/// An older node beside a newer one, whose kinds may have policies that the older one does not know.
@Suite(.timeLimit(.minutes(2))) struct FuturePolicyTests {
    /// Runs of a dead node whose kind has a policy that only a newer version knows are left to that version. The others
    /// are taken back, and the log has one line, however often the node looks.
    @Test func policyOfANewerVersionHoldsUpNoRescue() async throws {
        let lines = LogLines()
        let runner = ScriptedRunner { _ in ScriptedRunner.done }
        try await NodeBench.with(runner, configure: { $0.concurrency = 0 }, logger: lines.logger) { bench in
            let newer = try await bench.enqueue { $0.kind = "newer" }
            let known = try await bench.enqueue()
            // The second one takes only the run that was given back by the first.
            for (name, kinds) in [("two", ["k", "newer"]), ("three", ["k"])] {
                let peer = JobStore(database: bench.database, leaseDatabase: bench.database)
                let registered = try await peer.register(
                    NodeDescription(
                        id: UUID(), name: name, version: "1", concurrency: 2,
                        kinds: Dictionary(uniqueKeysWithValues: kinds.map { ($0, .retry) })),
                    lease: .seconds(600))
                let runs = try await peer.claim(
                    ClaimRequest(
                        slots: 2, kinds: Array(registered.kinds.values), cursor: ClaimCursor(),
                        defaultUserLimit: 10)
                ).runs
                #expect(Set(runs.map(\.spec.kind)) == Set(kinds))
                try await bench.script(
                    """
                    ALTER TABLE kind DROP CONSTRAINT IF EXISTS kind_on_interruption_check;
                    UPDATE kind SET on_interruption = 'resume' WHERE name = 'newer';
                    UPDATE node SET lease_until = now() - interval '1 second' WHERE id = \(peer.nodeNumber)
                    """)
                #expect(await bench.events(upTo: .retryScheduled).last == .retryScheduled)
            }
            #expect(try await bench.job(known)?.attempts.map(\.outcome) == [.interrupted, .interrupted])
            #expect(try await bench.job(newer)?.state == .running)
            #expect(lines.all.filter { $0.contains("resume") }.count == 1, "\(lines.all)")
        }
    }
}
