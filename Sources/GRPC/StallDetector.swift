/// Detects a peer that makes too little progress while the server holds memory for it: a slow reader of responses, or a
/// slow sender of a request. It is called once per tick and counts the ticks in a row with too little progress.
struct StallDetector {
    /// The least progress within `ServerConfiguration.stallTimeout`, unless less than this is left. With 16 s this is
    /// 1 KiB/s. A bad line is several times as fast, and a message of 4 MiB that is sent no faster has arrived, or was
    /// given up, after 70 minutes.
    static let bytesMin = 16 * 1024
    /// The factor by which more progress is required while the memory budget is scarce.
    static let scarcity = 16

    /// Progress since it last reached `bytesMin`.
    private var bytes: UInt16 = 0
    /// Ticks since progress last reached `bytesMin`.
    private(set) var ticks: UInt16 = 0

    /// - Parameter bytes: the progress since the last tick, while something is left to read or to send.
    /// - Returns: the ticks in a row with too little progress.
    mutating func tick(moved bytes: Int) -> Int {
        let sum = Int(self.bytes) + bytes
        if sum >= Self.bytesMin {
            reset()
        } else {
            self.bytes = UInt16(sum)
            if ticks < .max { ticks += 1 }
        }
        return Int(ticks)
    }

    /// Nothing is left to read or to send.
    mutating func reset() {
        self = StallDetector()
    }
}
