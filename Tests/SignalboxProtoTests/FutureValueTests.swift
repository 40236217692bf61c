import JobModel
import SignalboxProto
import Support
import Testing

/// A newer server may use values of enums that this version does not know. None of them makes a response unreadable: 0
/// is the unspecified value, and 99 is one that will be added.
@Suite struct FutureValueTests {
    private static let time = Wire.number(1, 1)
    private static let id = Wire.text(1, Samples.id.description)
    /// JobError.
    private static func error(_ cause: Int64) -> [UInt8] { Wire.text(1, "odd") + Wire.number(3, cause) }

    @Test(arguments: [Int64(0), 99]) func anAttempt(_ value: Int64) throws {
        let attempt =
            Wire.number(1, 1) + Wire.bytes(3, Self.time) + Wire.number(5, value)
            + Wire.bytes(6, Self.error(value))
        let response = try ListAttemptsResponse.decode(Wire.buffer(Wire.bytes(1, attempt)))
        let found = try #require(response.attempts.first)
        #expect(found.number == 1 && found.outcome == nil && !found.isCounted)
        #expect(found.error == JobError(reason: "odd", message: "", cause: nil))
        // What is unknown is not sent on as something else.
        #expect(try ListAttemptsResponse.decode(response.encode()) == response)
    }

    @Test(arguments: [Int64(0), 99]) func aLogLine(_ value: Int64) throws {
        let line = Wire.number(1, 7) + Wire.bytes(2, Self.time) + Wire.number(4, value)
        let log = try WatchResponse.decode(Wire.buffer(Wire.bytes(5, Self.id + Wire.bytes(2, line))))
        guard case .log(Samples.id, let lines) = log.event else {
            Issue.record("\(log)")
            return
        }
        #expect(lines.map(\.number) == [7] && lines[0].level == nil)
    }

    @Test(arguments: [Int64(0), 99], [JobState.running, .cancelled])
    func anEvent(_ value: Int64, state: JobState) throws {
        let number = Int64(state == .running ? 2 : 5)
        let event =
            Self.id + Wire.number(2, 4) + Wire.number(3, value) + Wire.number(4, number)
            + Wire.bytes(5, Self.time) + Wire.bytes(8, Self.error(value))
        let response = try WatchResponse.decode(Wire.buffer(Wire.bytes(2, event)))
        guard case .lifecycle(let found) = response.event else {
            Issue.record("\(response)")
            return
        }
        #expect(found.type == nil && found.state == state && found.sequence == 4)
        #expect(try WatchResponse.decode(response.encode()) == response)
    }

    /// A known type may lead to another state in a newer server: the state is what counts.
    @Test func anEventHasTheStateThatTheServerSays() throws {
        let event =
            Self.id + Wire.number(2, 4) + Wire.number(3, 2) + Wire.number(4, 1) + Wire.bytes(5, Self.time)
        guard case .lifecycle(let found) = try WatchResponse.decode(Wire.buffer(Wire.bytes(2, event))).event
        else { return }
        #expect(found.type == .started && found.state == .pending)
    }

    @Test func aDisposition() throws {
        let job = Self.id + Wire.number(2, 1) + Wire.number(3, 99) + Wire.number(4, 5)
        let response = try EnqueueBatchResponse.decode(Wire.buffer(Wire.bytes(1, job)))
        #expect(response.jobs.map(\.jobID) == [Samples.id] && response.jobs[0].created)
        #expect(response.jobs[0].disposition == nil && response.jobs[0].sequence == 5)
    }

    @Test func aStability() throws {
        let feature = Wire.text(1, "f") + Wire.number(2, 99) + Wire.number(3, 1)
        let bytes =
            Wire.bytes(3, feature) + Wire.bytes(4, []) + Wire.bytes(5, Self.time) + Wire.bytes(7, [])
        #expect(
            try GetServerInfoResponse.decode(Wire.buffer(bytes)).features == [
                ServerFeature(name: "f", stability: nil, isEnabled: true)
            ])
    }

    @Test func aHealth() throws {
        #expect(try HealthCheckResponse.decode(Wire.buffer(Wire.number(1, 99))).status == nil)
        #expect(try HealthCheckResponse.decode(Wire.buffer([])).status == .unknown)
    }

    @Test func jsonHasTheirNumbers() throws {
        let feature = Wire.text(1, "f") + Wire.number(2, 99)
        let lines = try GetServerInfoResponse.json(Wire.buffer(Wire.bytes(3, feature)), in: "features")
        #expect(lines == [#"{"name":"f","stability":99}"#])
    }
}
