import JobModel
import Logging

/// Claims jobs for a pool of runners: executes what `ClaimMachine` decides.
struct Claimer: Sendable {
    let pool: RunnerPool
    let pools: RunnerPools
    let runs: RunTable
    let store: any EngineStore
    let runtime: EngineRuntime
    let pollInterval: Duration
    let logger: Logger

    private typealias ClaimTask = Task<ClaimResult?, Never>

    /// Works until the pool is closed or the task is cancelled.
    func run() async {
        var machine = ClaimMachine()
        // The oldest first; two at most.
        var claims: [ClaimTask] = []
        var action = machine.start
        while !Task.isCancelled, !pool.isClosed {
            switch action {
            case .wait:
                let since = runtime.now()
                await pool.claims.wait(atMost: pollInterval, on: runtime)
                action = machine.woken(after: since.duration(to: runtime.now()))
            case .claim(let cursor):
                guard let grant = pools.beginClaim(for: pool) else {
                    action = machine.noSlots(random: runtime.random())
                    continue
                }
                let (claim, outlook) = await claim(under: grant, from: cursor)
                claims.append(claim)
                action = machine.began(outlook)
            case .join:
                let claimed = await claims.removeFirst().value
                action = machine.joined(claimed, random: runtime.random())
            case .noteEmptyBacklog:
                pools.noteEmptyBacklog(in: pool)
                action = machine.noted(random: runtime.random())
            case .pause(let time):
                try? await runtime.sleep(for: time)
                action = machine.paused(random: runtime.random())
            }
        }
        for claim in claims { _ = await claim.value }
    }

    /// Returns once the claim is over, or the next one may begin.
    private func claim(
        under grant: StartGrant, from cursor: ClaimCursor
    ) async -> (claim: ClaimTask, outlook: ClaimOutlook?) {
        let (outlooks, outlook) = AsyncStream<ClaimOutlook>.makeStream()
        let request = ClaimRequest(
            slots: grant.slots, kinds: grant.kinds, cursor: cursor, defaultUserLimit: grant.defaultUserLimit)
        let claim = runtime.start { () -> ClaimResult? in
            defer { outlook.finish() }
            do throws(StoreError) {
                let claimed = try await store.claim(request) { next in
                    pools.shrink(grant, to: next.runsMax)
                    outlook.yield(next)
                }
                runs.start(claimed.runs, under: grant)
                pools.endClaim(grant, claimed)
                return claimed
            } catch {
                pools.endClaim(grant, nil)
                logger.warning("could not claim jobs", metadata: ["error": "\(error)"])
                return nil
            }
        }
        return (claim, await outlooks.first { _ in true })
    }
}
