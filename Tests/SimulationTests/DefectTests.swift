import ModelStore
import Simulation
import Testing
import Threads

/// Every planted bug is found, by the rule that is about it, within a stated number of seeds.
@Suite(.serialized) struct DefectTests {
    struct Planted: Sendable, CustomTestStringConvertible {
        let defects: Set<ModelDefect>
        let engineDefects: Set<EngineDefect>
        let rules: Set<Rule>
        let seedsMax: UInt64

        init(_ defect: ModelDefect, _ rules: Set<Rule>, within seedsMax: UInt64) {
            defects = [defect]
            engineDefects = []
            self.rules = rules
            self.seedsMax = seedsMax
        }

        init(_ defect: EngineDefect, _ rules: Set<Rule>, within seedsMax: UInt64) {
            defects = []
            engineDefects = [defect]
            self.rules = rules
            self.seedsMax = seedsMax
        }

        var testDescription: String {
            (defects.map(\.rawValue) + engineDefects.map(\.rawValue)).joined()
        }
    }

    private static let planted = [
        Planted(.finishIgnoresToken, [.staleWriteIsRefused, .successWasEarned], within: 500),
        Planted(.fenceIgnoresStart, [.staleWriteIsRefused, .successWasEarned], within: 500),
        Planted(.claimIgnoresLimit, [.limitIsKept], within: 20),
        Planted(.renewsEndedLease, [.endedLeaseStaysEnded], within: 20),
        Planted(.claimRepeatsToken, [.tokenGrows], within: 20),
        Planted(.takesOrphansEarly, [.orphansHaveNoLease], within: 20),
        Planted(.claimsFailedJob, [.finalIsFinal], within: 50),
        Planted(.skipsEventNumber, [.sequenceHasNoGap], within: 20),
        Planted(.dropsAcknowledgedJob, [.acknowledgedJobIsKept], within: 20),
        Planted(.retryForgetsJob, [.retryIsKept], within: 50),
        Planted(.losesCancel, [.cancelIsKept], within: 50),
        Planted(.neverPromotes, [.everythingEnds], within: 20),
        Planted(.losesCheckpoint, [.checkpointIsKept], within: 50),
        Planted(.forgetsAttempt, [.attemptsAreCounted], within: 20),
        Planted(.endsTwice, [.eventsFollowTheTable, .finalIsFinal], within: 50),
        Planted(.endsAreNotWritten, [.everythingEnds], within: 20),
        Planted(.renewalAlwaysSucceeds, [.attemptsDoNotOverlap, .everythingEnds], within: 500),
        Planted(.ghostsAreIgnored, [.lostRunsAreStopped], within: 500),
        Planted(.slowClock, [.attemptsDoNotOverlap], within: 500),
        Planted(.successIsInvented, [.successWasEarned], within: 20),
        Planted(.leavesTheThread, [.engineStaysInTheSimulation, .everythingEnds], within: 5),
    ]

    @Test(arguments: planted)
    func isFound(_ planted: Planted) async throws {
        let found = try await OSThread.run { () -> SimulationResult? in
            for seed in 1...planted.seedsMax {
                let result = Simulation.run(
                    seed: seed, defects: planted.defects, engineDefects: planted.engineDefects)
                if result.violation != nil { return result }
            }
            return nil
        }
        guard let found, let violation = found.violation else {
            Issue.record("not found in \(planted.seedsMax) seeds")
            return
        }
        #expect(planted.rules.contains(violation.rule), "\(found.report())")
    }

    @Test func everyDefectAndEveryRuleIsTried() {
        #expect(Set(Self.planted.flatMap(\.defects)) == Set(ModelDefect.allCases))
        #expect(Set(Self.planted.flatMap(\.engineDefects)) == Set(EngineDefect.allCases))
        #expect(Set(Self.planted.flatMap(\.rules)) == Set(Rule.allCases))
    }
}
