import Postgres
import TestDatabase
import Testing

@Suite(.timeLimit(.minutes(2))) struct ListenerTests {
    private static let notify = Statement("notify", "SELECT pg_notify($1, $2)::text")

    @Test func listensAndConnectsAgain() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                // A channel of its own, with a name that needs quoting.
                let channel = "\(schema.name) \"x\""
                var configuration = schema.connectionConfiguration()
                configuration.applicationName = schema.name
                let (events, sink) = AsyncStream.makeStream(of: Listener.Event.self)
                let listener = try Listener(configuration, channels: [channel]) { sink.yield($0) }

                func notify(_ payload: String) async throws {
                    try await database.run("notify") { connection throws(PostgresError) in
                        _ = try connection.execute(
                            Self.notify,
                            Parameters {
                                $0.append(channel)
                                $0.append(payload)
                            })
                    }
                }

                var iterator = events.makeAsyncIterator()
                func expectConnected() async {
                    guard case .connected = await iterator.next() else {
                        Issue.record("not connected")
                        return
                    }
                }
                func expectNotification(_ payload: String) async {
                    guard case .notification(channel, payload) = await iterator.next() else {
                        Issue.record("not notified of \(payload)")
                        return
                    }
                }

                await expectConnected()
                try await notify("one")
                try await notify("")
                await expectNotification("one")
                await expectNotification("")

                let killed = try await database.run("kill") { connection throws(PostgresError) in
                    let end = Statement(
                        nil,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1")
                    return try connection.execute(end, Parameters { $0.append(schema.name) }).rowCount
                }
                #expect(killed == 1)
                guard case .disconnected = await iterator.next() else {
                    Issue.record("not disconnected")
                    return
                }
                await expectConnected()
                try await notify("two")
                await expectNotification("two")

                await listener.stop()
                sink.finish()
                #expect(await iterator.next() == nil)
            }
        }
    }
}
