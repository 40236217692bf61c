import JobModel
package import ModelStore
import Support

/// What became of one seed.
package struct SimulationResult: Sendable {
    package let scenario: Scenario
    package let violation: Violation?
    package let trace: Trace
    /// Jobs that clients were told are kept.
    package let acknowledged: Int
    package let steps: Int
    package let elapsed: Duration

    /// What to print of a failure, the last lines of its trace included.
    package func report(linesMax: Int = 60) -> String {
        let lines = trace.lines
        return """
            \(scenario)
            violated: \(violation?.description ?? "nothing")
            replay with: scripts/simulate --seed \(scenario.seed) --trace
            \(lines.suffix(linesMax).joined(separator: "\n"))
            """
    }
}

/// Drives one seed: several nodes with the real engine, a model of the database, clients, and faults.
package struct Simulation {
    private let world: World
    private var scenario: Scenario { world.scenario }

    /// Runs a seed to its end, or to the first rule that does not hold.
    package static func run(
        seed: UInt64, defects: Set<ModelDefect> = [], engineDefects: Set<EngineDefect> = []
    ) -> SimulationResult {
        Simulation(world: World(Scenario(seed: seed), defects: defects, engineDefects: engineDefects)).run()
    }

    private func run() -> SimulationResult {
        world.watchDatabase()
        for _ in 0..<scenario.nodes { world.startNode() }
        scheduleClients()
        scheduleFaults()
        world.scheduler.after(scenario.calmAt, in: .world) { calmDown() }
        world.scheduler.run(until: scenario.calmAt) { world.violation != nil }
        let end = scenario.calmAt + scenario.patience
        world.scheduler.run(until: end) { world.violation != nil || isEverythingFinal }
        world.database.read { tables in
            world.check { $0.ended(tables, at: world.scheduler.elapsed) }
        }
        let (elapsed, trace) = (world.scheduler.elapsed, world.traced)
        let hasEnded = world.finish()
        world.check { checker in
            if !hasEnded { checker.fail(.engineStaysInTheSimulation, "a task of a node does not end") }
            if world.scheduler.strangers > 0 {
                checker.fail(.engineStaysInTheSimulation, "a task of a node was resumed on another thread")
            }
        }
        return SimulationResult(
            scenario: scenario, violation: world.violation, trace: trace,
            acknowledged: world.check { $0.acknowledgedCount }, steps: world.scheduler.steps, elapsed: elapsed
        )
    }

    private var isEverythingFinal: Bool {
        world.isCalm
            && world.database.read { tables in
                world.check { $0.acknowledgedCount == scenario.jobs && $0.isEverythingFinal(tables) }
            }
    }

    // MARK: Clients

    private func at(_ range: ClosedRange<Int>, _ action: @escaping @Sendable () -> Void) {
        world.scheduler.after(.milliseconds(world.draw(range)), in: .world, action)
    }

    private func scheduleClients() {
        let last = Int(scenario.calmAt.milliseconds) - 1
        for number in 0..<scenario.jobs {
            let spec = spec(number)
            at(0...(last * 2 / 3)) { enqueue(spec) }
        }
        for _ in 0..<scenario.cancels {
            at(0...last) { if let id = world.anyJob() { call { $0.cancel(id) } } }
        }
        for _ in 0..<scenario.retries {
            at(last / 2...last) { if let id = world.anyJob() { call { $0.retry(id) } } }
        }
        for _ in 0..<scenario.settings { at(0...last) { changeSettings() } }
    }

    private func spec(_ number: Int) -> JobSpec {
        let kind = Behaviour.allCases[world.draw(0...(Behaviour.allCases.count - 1))]
        var spec = JobSpec(kind: kind.rawValue, userID: ExactText("user-\(world.draw(1...scenario.users))"))
        spec.jobID = .version7(milliseconds: Int64(number), random: (scenario.seed, UInt64(number)))
        spec.maxAttempts = world.draw(1...4)
        spec.priority = world.draw(-1...1)
        spec.retryPolicy = RetryPolicy(
            initialDelay: .milliseconds(world.draw(0...100)), factor: 2, maxDelay: .milliseconds(300),
            jitter: 0.5)
        if world.chance(20) { spec.due = .after(.milliseconds(world.draw(1...1000))) }
        return spec
    }

    /// Asks for a job again, perhaps at another node, until it is acknowledged.
    private func enqueue(_ spec: JobSpec) {
        guard let id = spec.jobID else { return }
        world.addJob(id, spec)
        let isKnown = Flag()
        let restores = world.restores
        call { node in
            node.enqueue(spec) { isDone in
                guard isDone, !isKnown.isSet, world.restores == restores else { return }
                isKnown.set()
                world.trace("client", node.process, "is acknowledged", job: id)
                world.database.read { tables in world.check { $0.acknowledged(id, tables) } }
            }
        }
        world.scheduler.after(.milliseconds(1500), in: .world) {
            if !isKnown.isSet, !world.scheduler.isOver { enqueue(spec) }
        }
    }

    /// A client's call arrives at a node.
    private func call(_ body: @escaping @Sendable (SimulatedNode) -> Void) {
        guard let node = world.anyNode() else { return }
        world.scheduler.after(.microseconds(world.draw(50...1000)), in: node.process) {
            if !world.scheduler.isOver { body(node) }
        }
    }

    private func changeSettings() {
        let user = ExactText("user-\(world.draw(1...scenario.users))")
        let choice = world.draw(0...3)
        let value = world.draw(0...3)
        world.trace("settings", .world, "change")
        change { tables in
            switch choice {
            case 0: tables.setPaused(true, queue: "default")
            case 1: tables.setPaused(false, queue: "default")
            case 2: tables.setQueueLimit(value, queue: "default")
            default: tables.setUserLimit(value, userID: user, queue: "default")
            }
        }
    }

    private func change(_ body: (inout ModelTables) -> Void) {
        // A change of the settings is refused by nothing.
        try? world.database.transaction { tables, _ throws(StoreError) in body(&tables) }
    }

    // MARK: Faults

    private func scheduleFaults() {
        let last = Int(scenario.calmAt.milliseconds) - 1
        let lease = Int(scenario.lease.milliseconds)
        for _ in 0..<scenario.freezes {
            at(0...last) {
                guard let node = world.anyNode() else { return }
                world.freeze(node, for: .milliseconds(world.draw(lease / 4...lease * 2)))
            }
        }
        for _ in 0..<scenario.crashes {
            at(0...last) {
                guard let node = world.anyNode() else { return }
                world.crash(node)
                world.scheduler.after(.milliseconds(world.draw(1...lease)), in: .world) {
                    if !world.scheduler.isOver { world.startNode() }
                }
            }
        }
        for _ in 0..<scenario.restarts {
            at(0...last) {
                guard let node = world.anyNode() else { return }
                world.trace("node", node.process, "shuts down")
                node.shutDown(grace: .milliseconds(world.draw(0...1000))) {
                    if !world.scheduler.isOver { world.startNode() }
                }
            }
        }
        for _ in 0..<scenario.outages {
            at(0...last) { world.beginOutage(for: .milliseconds(world.draw(10...lease * 2))) }
        }
        for _ in 0..<scenario.cuts {
            at(0...last / 2) {
                guard let node = world.anyNode() else { return }
                world.cutOff(node, for: .milliseconds(world.draw(lease / 4...lease * 4)))
            }
        }
        for _ in 0..<scenario.restores {
            at(0...last / 2) {
                world.keep()
                world.scheduler.after(.milliseconds(world.draw(1...last / 2)), in: .world) {
                    guard !world.scheduler.isOver else { return }
                    world.restore()
                    // Clients find out that their jobs are lost.
                    for (id, spec) in world.requests where world.database.read({ $0.job(id) == nil }) {
                        enqueue(spec)
                    }
                }
            }
        }
        for _ in 0..<scenario.clockSteps {
            at(0...last) { world.anyNode()?.stepClock(by: .seconds(world.draw(-5000...5000))) }
        }
    }

    /// From here on nothing goes wrong, and nothing stands against any job.
    private func calmDown() {
        world.trace("world", .world, "calms down")
        change { tables in
            tables.setPaused(false, queue: "default")
            tables.setQueueLimit(world.draw(1...3), queue: "default")
            for user in 1...scenario.users {
                tables.setUserLimit(nil, userID: ExactText("user-\(user)"), queue: "default")
            }
        }
        if world.living.isEmpty { world.startNode() }
    }
}
