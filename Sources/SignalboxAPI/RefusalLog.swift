/// Decides which refusals are logged: the first of each source, caller and reason at once, and then at most one line a
/// minute, with the number of refusals since the previous line. Pure.
struct RefusalLog {
    struct Key: Hashable {
        var isOfConnection: Bool
        var reason: String
        var source: String
        var caller: String
    }

    struct Line: Equatable {
        /// Nil: the refusals that exceeded `keysMax`.
        var key: Key?
        /// The method of the last refused call.
        var method: String?
        /// Since the last line with this key.
        var count: Int
    }

    private struct Entry {
        var method: String?
        /// The refusals that no line has counted yet.
        var count = 0
        var loggedAt: ContinuousClock.Instant
    }

    static let interval = Duration.seconds(60)
    /// The most keys that have lines of their own. A flood from more addresses gets one line a minute for the rest.
    static let keysMax = 1_000

    private var entries: [Key?: Entry] = [:]

    /// Counts a refused call or connection. Returns the line to write now, if any.
    mutating func add(_ key: Key, method: String?, now: ContinuousClock.Instant) -> Line? {
        let key = entries[key] != nil || entries.count < Self.keysMax ? key : Key?.none
        guard var entry = entries[key] else {
            entries[key] = Entry(loggedAt: now)
            return Line(key: key, method: method, count: 1)
        }
        entry.method = method
        entry.count += 1
        let line = Self.line(key, &entry, now)
        entries[key] = entry
        return line
    }

    /// Returns the lines that have become due, and forgets keys without new refusals. It is called every few seconds.
    mutating func tick(now: ContinuousClock.Instant) -> [Line] {
        var lines: [Line] = []
        for (key, entry) in entries where now - entry.loggedAt >= Self.interval {
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
        guard entry.count > 0, now - entry.loggedAt >= interval else { return nil }
        defer {
            entry.count = 0
            entry.loggedAt = now
        }
        return Line(key: key, method: entry.method, count: entry.count)
    }
}
