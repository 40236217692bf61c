/// Whether a client takes or sends what it must, and fast enough. It is asked at each tick at which something of the
/// client's holds memory, and counts the ticks in which too little has moved.
struct Pace {
    /// What must move within `ServerConfiguration.stallTimeout`, unless all that is owed is less. With 16 s it is 1 KiB/s: a
    /// bad line has several, and a message of 4 MiB that is sent no faster has come, or is over, after 70 minutes.
    static let bytesMin = 16 * 1024
    /// So many times as much while others wait for what it holds.
    static let scarcity = 16

    /// Since the last time that enough had moved.
    private var bytes: UInt16 = 0
    private(set) var ticks: UInt16 = 0

    /// Something is owed, and `bytes` of it have moved since the last tick. Gives the ticks for which that is too little.
    mutating func tick(moved bytes: Int) -> Int {
        let sum = Int(self.bytes) + bytes
        if sum >= Self.bytesMin {
            rest()
        } else {
            self.bytes = UInt16(sum)
            if ticks < .max { ticks += 1 }
        }
        return Int(ticks)
    }

    /// Nothing is owed.
    mutating func rest() {
        self = Pace()
    }
}
