import JobEngine
import JobModel
import ModelStore
import Support

/// What the handler of a kind does. The name of the kind is the raw value.
enum Behaviour: String, CaseIterable, Sendable {
    case quick, slow, lasting, flaky, fatal, hanging, stubborn, once, talking, stepping

    private var timeout: Duration {
        switch self {
        case .hanging, .stubborn: .milliseconds(400)
        case .lasting: .seconds(20)
        case .quick, .slow, .flaky, .fatal, .once, .talking, .stepping: .seconds(3)
        }
    }

    var definition: KindDefinition {
        KindDefinition(
            kind: rawValue, timeout: timeout, softTimeout: self == .slow ? .milliseconds(500) : nil,
            onInterruption: self == .once ? .fail : .retry)
    }
}

/// Runs the attempts of one kind, and tells the checker when a handler begins and ends.
struct SimulatedRunner: JobRunner {
    let definition: KindDefinition
    private let behaviour: Behaviour
    private let world: World
    private let process: ProcessID

    init(_ behaviour: Behaviour, _ world: World, _ process: ProcessID) {
        definition = behaviour.definition
        self.behaviour = behaviour
        self.world = world
        self.process = process
    }

    func run(_ run: any Run) async throws -> JobResult {
        // What was still under way when the simulation ended is not looked at.
        guard !world.scheduler.isOver else { throw RunFailure(message: "the simulation is over") }
        let isLate = world.wasFrozen(process) || world.wasRestored
        let startedAt = world.database.read { $0.job(run.jobID)?.run?.startedAt }
        world.trace("handler", process, "begins", job: run.jobID)
        let number = world.check {
            $0.handlerBegan(
                run.jobID, attempt: run.attempt, startedAt: startedAt, checkpoint: run.checkpoint,
                node: process.index, isStubborn: behaviour == .stubborn, isLate: isLate)
        }
        do {
            try await behave(run)
            world.trace("handler", process, "returns", job: run.jobID)
            world.check { $0.handlerEnded(number, didReturn: true) }
            return JobResult(data: [UInt8(truncatingIfNeeded: run.attempt)], contentType: "x/y")
        } catch let failure as RunFailure {
            world.trace("handler", process, "fails", job: run.jobID)
            world.check { $0.handlerEnded(number, didReturn: false) }
            throw failure
        } catch {
            world.trace("handler", process, "stops", job: run.jobID)
            world.check { $0.handlerEnded(number, didReturn: false) }
            throw RunFailure(message: "stopped")
        }
    }

    private func pause(_ range: ClosedRange<Int>, ignoringCancellation: Bool = false) async throws {
        try await world.scheduler.pause(
            for: .milliseconds(world.draw(range)), in: process, ignoringCancellation: ignoringCancellation)
    }

    private func behave(_ run: any Run) async throws {
        switch behaviour {
        case .quick:
            try await pause(1...20)
        case .slow, .once:
            try await pause(50...1200)
        case .lasting:
            // Longer than a lease, most of the time.
            try await pause(1000...6000)
        case .flaky:
            try await pause(1...20)
            if run.attempt == 1 || world.chance(50) {
                throw RunFailure(
                    message: "failed", retryAfter: world.chance(50) ? .milliseconds(world.draw(0...200)) : nil
                )
            }
        case .fatal:
            throw RunFailure(message: "failed for good", isPermanent: true)
        case .hanging:
            try await pause(10_000...10_000)
        case .stubborn:
            try await pause(100...1500, ignoringCancellation: true)
        case .talking:
            for step in 1...3 {
                run.report(
                    stage: "talks", fraction: Double(step) / 3, message: "", done: Int64(step), total: 3)
                run.log(.info, "step \(step)")
                try await pause(1...100)
            }
        case .stepping:
            for step in (run.checkpoint?.first ?? 0)..<3 {
                try await pause(1...150)
                try await run.save(checkpoint: [step + 1])
                if world.chance(20) { throw RunFailure(message: "failed after a step") }
            }
        }
    }
}
