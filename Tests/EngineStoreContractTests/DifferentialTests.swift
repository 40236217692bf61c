import JobModel
import Support
import TestRandom
import Testing

/// Random sequences of operations give the same answers and the same jobs with both stores.
@Suite struct DifferentialTests {
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func bothStoresAgree(_ seed: UInt64) async throws {
        var traces: [[String]] = []
        for implementation in Implementation.allCases {
            try await ContractBench.with(implementation, kinds: Script.kinds, lease: Script.lease) {
                bench in
                let two = try await bench.peer(kinds: Script.kinds, lease: Script.lease)
                var script = Script(bench: bench, nodes: [bench.one, two], seed: seed)
                for _ in 0..<80 { try await script.step() }
                traces.append(script.trace)
            }
        }
        for (index, (left, right)) in zip(traces[0], traces[1]).enumerated() where left != right {
            Issue.record("seed \(seed), step \(index): Postgres says \(left); the model says \(right)")
            return
        }
        #expect(traces[0].count == traces[1].count && traces[0].count == 80)
    }
}

/// Draws operations and keeps what came of each, without what differs between two runs: times, and tokens but for their
/// order.
private struct Script {
    static let lease: Duration = .seconds(1_000_000)
    static let kinds: [String: Interruption] = ["a": .retry, "b": .fail]

    let bench: ContractBench
    let nodes: [Node]
    var random: SeededRandom
    var trace: [String] = []
    private var ids: [JobID] = []
    private var runs: [(run: ClaimedRun, node: Int)] = []
    private var cursors = [ClaimCursor(), ClaimCursor()]

    init(bench: ContractBench, nodes: [Node], seed: UInt64) {
        self.bench = bench
        self.nodes = nodes
        random = SeededRandom(seed: seed)
    }

    private mutating func draw(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

    mutating func step() async throws {
        let operation = draw(0..<100)
        let node = draw(0..<nodes.count)
        let what =
            switch operation {
            case ..<22: try await enqueue(node)
            case ..<42: try await claim(node)
            case ..<65: try await finish()
            case ..<73: try await cancel(node)
            case ..<80: try await retry(node)
            case ..<85: try await limit(node)
            case ..<88: try await pause(node)
            case ..<92: try await pass()
            case ..<96: try await promote(node)
            default: try await orphans(node)
            }
        trace.append("\(what) \(try await jobs())")
    }

    /// What went wrong, instead of what came of it.
    private func outcome(_ body: () async throws -> String) async -> String {
        do { return try await body() } catch { return "\(error)" }
    }

    private mutating func enqueue(_ node: Int) async throws -> String {
        let isAgain = !ids.isEmpty && random.chance(15)
        let index = isAgain ? draw(0..<ids.count) : ids.count
        if !isAgain {
            ids.append(JobID("0197a000-0000-7000-8000-\(String(format(index)))")!)
        }
        var spec = JobSpec(kind: random.chance(60) ? "a" : "b", userID: ExactText("u\(draw(0..<3))"))
        spec.jobID = ids[index]
        spec.priority = draw(-1..<2)
        spec.maxAttempts = draw(1..<4)
        if random.chance(20) { spec.due = .after(.seconds(100_000)) }
        let store = nodes[node].store
        return await outcome {
            let enqueued = try await store.enqueue(NewJob(spec: spec, now: .now, by: .with(.all)))
            return "enqueue \(index) \(enqueued.isNew) \(enqueued.job.state) \(enqueued.job.sequence)"
        }
    }

    private func format(_ index: Int) -> String {
        String(repeating: "0", count: 12 - String(index).count) + String(index)
    }

    private mutating func claim(_ node: Int) async throws -> String {
        let claimed = try await nodes[node].claim(draw(1..<4), limit: 2, from: cursors[node])
        cursors[node] = claimed.cursor
        runs += claimed.runs.map { ($0, node) }
        let started = claimed.runs.map { "\(name($0.key.id))/\($0.attempt)/\($0.lastAttempt)/\($0.sequence)" }
            .sorted()
        return "claim \(started) \(claimed.cursor.lane == 0) \(claimed.hasMore) \(claimed.foundLanes)"
    }

    private func name(_ id: JobID) -> String { ids.firstIndex(of: id).map { "\($0)" } ?? "?" }

    private mutating func finish() async throws -> String {
        guard !runs.isEmpty else { return "nothing to finish" }
        // A run may be ended twice: the second time it is stale.
        let sorted = runs.indices.sorted {
            runs[$0].run.key.number * 1000 + runs[$0].run.sequence
                < runs[$1].run.key.number * 1000 + runs[$1].run.sequence
        }
        let (run, node) = runs[sorted[draw(0..<sorted.count)]]
        let verdicts: [Verdict] = [
            .success, .failure, .again(), .again(after: .seconds(50_000)), .released, .cancelled,
        ]
        var verdict = verdicts[draw(0..<verdicts.count)]
        if case .again(_, _, _, true) = verdict, run.attemptsUsed >= run.spec.maxAttempts {
            verdict = .failure
        }
        return "finish \(name(run.key.id)) \(try await nodes[node].finish(run, verdict))"
    }

    private mutating func cancel(_ node: Int) async throws -> String {
        guard !ids.isEmpty else { return "nothing to cancel" }
        let id = ids[draw(0..<ids.count)]
        let store = nodes[node].store
        return await outcome {
            try await store.requestCancel(id, note: "why", for: .all)
            return "cancel \(name(id))"
        }
    }

    private mutating func retry(_ node: Int) async throws -> String {
        guard !ids.isEmpty else { return "nothing to retry" }
        let id = ids[draw(0..<ids.count)]
        let store = nodes[node].store
        return await outcome {
            try await store.requestRetry(id, for: .all)
            return "retry \(name(id))"
        }
    }

    private mutating func limit(_ node: Int) async throws -> String {
        let store = nodes[node].store
        if random.chance(50) {
            try await store.limitQueue("default", to: draw(0..<4))
        } else {
            try await store.limitUser(
                ExactText("u\(draw(0..<3))"), queue: "default", to: random.chance(50) ? nil : draw(0..<4))
        }
        return "limit"
    }

    private mutating func pause(_ node: Int) async throws -> String {
        try await nodes[node].store.pause(random.chance(30), queue: "default")
        return "pause"
    }

    private mutating func pass() async throws -> String {
        try await bench.cluster.pass(.seconds(draw(1..<80) * 1000 + 137))
        return "pass"
    }

    private mutating func promote(_ node: Int) async throws -> String {
        let due = try await nodes[node].store.promoteDue()
        return "promote \(due.promoted) \(due.next == nil)"
    }

    private mutating func orphans(_ node: Int) async throws -> String {
        if random.chance(30) { try await nodes[node].store.endNode() }
        let orphans = try await nodes[1 - node].store.orphans().runs
        let found = orphans.map {
            "\(name($0.run.key.id)) \($0.node) \($0.onInterruption) \($0.cancelNote ?? "-")"
        }
        let renewal = try await nodes[node].renew(known: [], lease: Script.lease)
        let strays = renewal.strays.map { name($0.key.id) }.sorted()
        if !renewal.isAlive {
            _ = try await nodes[node].store.register(
                ContractBench.description(nodes[node].name, kinds: Self.kinds), lease: Script.lease)
        }
        return "orphans \(found.sorted()) \(renewal.isAlive) \(strays) \(renewal.cancels.count)"
    }

    /// Every job, with its events and attempts.
    private func jobs() async throws -> [String] {
        var all: [String] = []
        for id in ids {
            guard let job = try await bench.one.store.record(id) else { continue }
            let events = try await bench.one.store.history(job).map {
                "\($0.type?.rawValue ?? "unknown")\($0.sequence)/\($0.attempt)"
            }
            let attempts = job.attempts.map { "\($0.number)\($0.node)\($0.outcome)\($0.isCounted)" }
            all.append(
                "\(name(id)) \(job.state) \(job.sequence) \(job.attempt)/\(job.attemptsUsed)/\(job.spec.maxAttempts) \(job.cancelRequested) "
                    + "\(job.error?.cause?.rawValue ?? "-") \(job.result != nil) \(events) \(attempts)")
        }
        return all
    }
}
