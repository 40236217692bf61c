import ArgumentParser
import ModelStore
import Simulation

/// Runs seeds of the simulation until one fails. See docs/simulation.md.
@main struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Simulates nodes of Signalbox under faults, one run for each seed."
    )

    @Option(help: "How many seeds to run. Unset: 1000, or with --seed only that one.") var seeds: Int?
    @Option(help: "The first seed. Unset: 1.") var seed: UInt64?
    @Flag(help: "Print the trace of every seed that is run.") var trace = false
    @Option(help: "A bug to plant, as Tests/ModelStore/ModelDefect.swift or EngineDefect names it.")
    var defect: String?

    func validate() throws {
        guard seeds ?? 1 > 0 else { throw ValidationError("--seeds must be positive") }
        if let defect, ModelDefect(rawValue: defect) == nil, EngineDefect(rawValue: defect) == nil {
            let names = ModelDefect.allCases.map(\.rawValue) + EngineDefect.allCases.map(\.rawValue)
            throw ValidationError(
                "there is no bug \(defect) to plant; there are \(names.joined(separator: ", "))")
        }
    }

    func run() throws {
        let first = seed ?? 1
        let count = seeds ?? (seed == nil ? 1000 : 1)
        let defects = Set(defect.flatMap { ModelDefect(rawValue: $0) }.map { [$0] } ?? [])
        let engineDefects = Set(defect.flatMap { EngineDefect(rawValue: $0) }.map { [$0] } ?? [])
        let clock = ContinuousClock()
        let started = clock.now
        var steps = 0
        var hash: UInt64 = 0
        for number in first..<(first + UInt64(count)) {
            let result = Simulation.run(seed: number, defects: defects, engineDefects: engineDefects)
            steps += result.steps
            hash = hash &* 31 &+ result.trace.hash
            if trace { print(result.report(linesMax: .max)) }
            guard result.violation == nil else {
                if !trace { print(result.report()) }
                print("seed \(number) failed after \(number - first) seeds that did not")
                throw ExitCode.failure
            }
        }
        let seconds = started.duration(to: clock.now) / .seconds(1)
        let rate = (Double(count) / seconds).rounded()
        print(
            "\(count) seeds from \(first) on hold every rule: \(rate) seeds a second, \(steps / count) steps a seed, "
                + "hash of all traces \(String(hash, radix: 16))")
    }
}
