import Logging
import Synchronization
import Testing

@testable import Postgres

@Suite struct OutageLogTests {
    private let start = ContinuousClock.now

    @Test func theFirstFailureThenOneInTenSecondsAndTheEnd() {
        var log = OutageLog()
        #expect({ log.connected() }() == false)
        #expect({ log.connectFailed(now: start) }() == true)
        #expect({ log.connectFailed(now: start) }() == false)
        #expect({ log.connectFailed(now: start + .seconds(9.9)) }() == false)
        #expect({ log.connectFailed(now: start + .seconds(10)) }() == true)
        #expect({ log.connectFailed(now: start + .seconds(19.9)) }() == false)
        #expect({ log.connected() }() == true)
        // The other connections come back too.
        #expect({ log.connected() }() == false)
        #expect({ log.connectFailed(now: start + .seconds(20)) }() == true)
    }

    private final class Lines: Sendable {
        private let messages = Mutex<[String]>([])
        var all: [String] { messages.withLock { $0 } }
        func add(_ message: String) { messages.withLock { $0.append(message) } }
    }

    private struct Handler: LogHandler {
        let lines: Lines
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) { lines.add("\(event.message)") }
    }

    @Test func aDatabaseThatIsAwayIsOneLine() async throws {
        let (lines, begun) = (Lines(), ContinuousClock.now)
        let database = try Database(
            .init(
                connection: .init(
                    connectionString: "host=/nonexistent", applicationName: "tests",
                    logger: Logger(label: "tests") { _ in Handler(lines: lines) })))
        // Long enough for several tries of each connection.
        await #expect(throws: PostgresError.self) {
            try await database.run("nowhere", timeout: .seconds(1)) { _ in }
        }
        #expect(Set(lines.all) == ["cannot connect to the database: trying again"])
        // One each ten seconds, should this have taken so long.
        #expect(lines.all.count <= 1 + Int((ContinuousClock.now - begun) / .seconds(10)))
        await database.shutdown()
    }
}
