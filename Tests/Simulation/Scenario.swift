import JobModel
import TestRandom

/// What a seed chooses: the cluster, what clients do, and what goes wrong. Everything that goes wrong is over at
/// `calmAt`, and every job has to be final within `patience` from then on.
package struct Scenario: Sendable, CustomStringConvertible {
    package let seed: UInt64
    let nodes: Int
    let slots: Int
    let users: Int
    let jobs: Int
    /// With few of them, claims overlap and go round the lanes.
    let lanesPerClaim: Int
    let defaultUserLimit: Int
    let lease: Duration
    let calmAt: Duration
    /// Of 100 calls to the database, those that do not arrive, those whose answers do not, and those that are slow.
    let lostCalls: Int
    let lostAnswers: Int
    let slowCalls: Int
    let freezes: Int
    let crashes: Int
    /// Nodes that shut down in order, and are started again.
    let restarts: Int
    let outages: Int
    /// Nodes that cannot reach the database for a while.
    let cuts: Int
    let clockSteps: Int
    /// The database is brought back to an earlier state.
    let restores: Int
    let cancels: Int
    let retries: Int
    let settings: Int

    package init(seed: UInt64) {
        self.seed = seed
        var random = SeededRandom(seed: seed)
        func draw(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
        nodes = min(3, draw(1...4))
        slots = draw(1...4)
        users = draw(1...5)
        lanesPerClaim = [1, 2, 3, 40][draw(0...3)]
        jobs = draw(2...10)
        defaultUserLimit = draw(1...3)
        lease = .milliseconds(draw(15...40) * 100)
        calmAt = .milliseconds(draw(10...70) * 100)
        let isLossy = random.chance(70)
        lostCalls = isLossy ? draw(0...15) : 0
        lostAnswers = isLossy ? draw(0...15) : 0
        slowCalls = draw(0...20)
        freezes = draw(0...2)
        crashes = draw(0...2)
        restarts = draw(0...2)
        outages = draw(0...1)
        cuts = draw(0...2)
        clockSteps = draw(0...2)
        cancels = draw(0...4)
        retries = draw(0...4)
        settings = draw(0...4)
        restores = random.chance(30) ? 1 : 0
    }

    /// Two leases for what the last fault has left behind, and time for every job, one after the other.
    var patience: Duration { lease * 2 + .seconds(5) + .seconds(10) * jobs }

    package var description: String {
        """
        seed \(seed): \(nodes) nodes with \(slots) slots and a lease of \(lease), \(users) users with a limit of \
        \(defaultUserLimit), \(jobs) jobs, \(lanesPerClaim) lanes a claim, \(cancels) cancels, \(retries) retries, \(settings) changes of settings; \
        \(lostCalls) % of calls and \(lostAnswers) % of answers lost, \(slowCalls) % slow, \(freezes) freezes, \
        \(crashes) crashes, \(restarts) restarts, \(outages) outages, \(cuts) cuts, \(clockSteps) steps of a clock, \(restores) restores; calm from \(calmAt) on
        """
    }
}
