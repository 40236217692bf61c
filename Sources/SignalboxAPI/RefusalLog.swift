/// Which refusals are written to the log, and when: of those of one source, caller and reason a line at once, and then at
/// most one each minute, with how many there were since the line before. Pure.
struct RefusalLog {
    struct Key: Hashable {
        var isOfConnection: Bool
        var reason: String
        var source: String
        var caller: String
    }

    struct Line: Equatable {
        /// Nil: of all for which there was no room.
        var key: Key?
        /// The method of the last refused call.
        var method: String?
        /// Since the last line with this key.
        var count: Int
    }

    private struct Entry {
        var method: String?
        /// That are in no line yet.
        var count = 0
        var saidAt: ContinuousClock.Instant
    }

    static let interval = Duration.seconds(60)
    /// Told apart at once; a flood from more addresses than that has one line a minute for the rest.
    static let keysMax = 1_000

    private var entries: [Key?: Entry] = [:]

    /// A call or a connection was refused. Gives the line that is to be written now.
    mutating func add(_ key: Key, method: String?, now: ContinuousClock.Instant) -> Line? {
        let key = entries[key] != nil || entries.count < Self.keysMax ? key : Key?.none
        guard var entry = entries[key] else {
            entries[key] = Entry(saidAt: now)
            return Line(key: key, method: method, count: 1)
        }
        entry.method = method
        entry.count += 1
        let line = Self.line(key, &entry, now)
        entries[key] = entry
        return line
    }

    /// To be called every few seconds: the lines of what has ended meanwhile. Forgets what is over.
    mutating func tick(now: ContinuousClock.Instant) -> [Line] {
        var lines: [Line] = []
        for (key, entry) in entries where now - entry.saidAt >= Self.interval {
            var entry = entry
            if let line = Self.line(key, &entry, now) {
                lines.append(line)
                entries[key] = entry
            } else {
                entries[key] = nil
            }
        }
        return lines
    }

    private static func line(_ key: Key?, _ entry: inout Entry, _ now: ContinuousClock.Instant) -> Line? {
        guard entry.count > 0, now - entry.saidAt >= interval else { return nil }
        defer {
            entry.count = 0
            entry.saidAt = now
        }
        return Line(key: key, method: entry.method, count: entry.count)
    }
}
