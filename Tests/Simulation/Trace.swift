/// What happened in a simulation, in order, with a hash by which two runs of a seed are compared.
package struct Trace: Sendable {
    private struct Entry {
        let at: Duration
        let what: StaticString
        let process: Int
        let outcome: StaticString
        let job: Int
    }

    private var entries: [Entry] = []
    /// FNV-1a, 64 bits.
    package private(set) var hash: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(
        _ what: StaticString, process: Int, _ outcome: StaticString, job: Int, at elapsed: Duration
    ) {
        entries.append(Entry(at: elapsed, what: what, process: process, outcome: outcome, job: job))
        add(UInt64(truncatingIfNeeded: elapsed.components.seconds))
        add(UInt64(truncatingIfNeeded: elapsed.components.attoseconds))
        add(UInt64(truncatingIfNeeded: process))
        add(UInt64(truncatingIfNeeded: job))
        for text in [what, outcome] { text.withUTF8Buffer { for byte in $0 { add(UInt64(byte)) } } }
    }

    private mutating func add(_ value: UInt64) { hash = (hash ^ value) &* 0x100_0000_01B3 }

    package var lines: [String] {
        entries.map { entry in
            let milliseconds = entry.at / .milliseconds(1)
            let location = entry.process == 0 ? "world" : "node \(entry.process)"
            let job = entry.job < 0 ? "" : " job \(entry.job)"
            return "\(milliseconds) ms  \(location)  \(entry.what)\(job)  \(entry.outcome)"
        }
    }
}
