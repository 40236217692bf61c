import Foundation
import JobModel
import ModelStore
import Simulation
import Testing
import Threads

/// A simulation runs on a thread of its own, because it would delay the tests that share the cooperative pool.
@Suite(.serialized) struct SimulationTests {
    private static let seeds: UInt64 = 1000

    @Test func rulesHold() async throws {
        let failure = try await OSThread.run {
            for seed in 1...Self.seeds {
                let result = Simulation.run(seed: seed)
                if result.violation != nil { return Optional(result.report()) }
            }
            return nil
        }
        if let failure { Issue.record("\(failure)") }
    }

    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
    func aSeedIsReplayedExactly(_ seed: UInt64) async throws {
        let results = try await OSThread.run {
            [seed, seed, seed + 1000].map { Simulation.run(seed: $0) }
        }
        let (first, second) = (results[0], results[1])
        #expect(first.trace.hash == second.trace.hash)
        #expect(first.steps == second.steps && first.elapsed == second.elapsed)
        #expect(first.trace.lines == second.trace.lines)
        #expect(results[2].trace.hash != first.trace.hash)
    }
}
