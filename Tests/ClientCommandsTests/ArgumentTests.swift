import ArgumentParser
import JobModel
import Support
import Testing

@testable import ClientCommands

@Suite struct ArgumentTests {
    @Test(arguments: [
        ("5s", Duration.seconds(5)), ("250ms", .milliseconds(250)), ("2h", .seconds(7200)),
        ("2d", .seconds(172_800)), ("0s", .zero),
    ]) func durations(text: String, duration: Duration) throws {
        #expect(try Duration(written: text) == duration)
    }

    @Test(arguments: [
        "", "5", "s", "-5s", "5 s", "5x", "1.s", ".5s", "0.5s", "99999999999999d", "9e9s", "5s!", "1h30m",
    ]) func whatIsNoDuration(text: String) {
        #expect(throws: ArgumentTextError.self) { try Duration(written: text) }
    }

    @Test func times() throws {
        #expect(try Timestamp(written: "2024-07-03T10:00:00Z") == Sample.start)
        #expect(try Timestamp(written: "2024-07-03T12:00:00+02:00") == Sample.start)
        #expect(
            try Timestamp(written: "2024-07-03T10:00:00.250Z")
                == Sample.start.advanced(by: .milliseconds(250)))
        for text in ["", "tomorrow", "2024-07-03", "2024-07-03T10:00:00", "2024-13-03T10:00:00Z"] {
            #expect(throws: ArgumentTextError.self) { try Timestamp(written: text) }
        }
    }

    @Test func everythingOfAJob() async throws {
        let command = try EnqueueCommand.parse([
            "speech.dialogue", "--user", "ada", "--queue", "audio", "--payload", #"{"a":1}"#, "--id",
            Sample.id.description, "--key", "k", "--priority", "-5", "--delay", "5s", "--max-attempts", "7",
            "--retry-initial", "1s", "--retry-factor", "3", "--retry-max", "1m", "--retry-jitter", "0.1",
            "--job-timeout", "1h", "--soft-timeout", "50m", "--label", "a=b=c", "--label", "d=",
        ])
        let draft = try await command.draft(environment: [:])
        #expect(draft.kind == "speech.dialogue" && draft.userID == "ada" && draft.queue == "audio")
        #expect(draft.payload == Array(#"{"a":1}"#.utf8))
        #expect(draft.jobID.text == Sample.id.description && draft.idempotencyKey == "k")
        #expect(draft.priority == -5 && draft.delay == .seconds(5) && draft.maxAttempts == 7)
        #expect(draft.retryInitialDelay == .seconds(1) && draft.retryFactor == 3)
        #expect(draft.retryMaxDelay == .seconds(60) && draft.retryJitter == 0.1)
        #expect(draft.timeout == .seconds(3600) && draft.softTimeout == .seconds(3000))
        #expect(draft.labels.map(\.key) == ["a", "d"] && draft.labels.map(\.value) == ["b=c", ""])
    }

    @Test func theUserIsOnesOwn() async throws {
        let command = try EnqueueCommand.parse(["test.noop"])
        #expect(try await command.draft(environment: ["USER": "eve"]).userID == "eve")
        await #expect(throws: ValidationError.self) { try await command.draft(environment: [:]) }
    }

    @Test(arguments: [
        ["enqueue"], ["enqueue", "k", "--delay", "5s", "--at", "2030-01-01T00:00:00Z"],
        ["enqueue", "k", "--delay", "5"], ["enqueue", "k", "--label", "=x"], ["enqueue", "k", "--log"],
        ["enqueue", "k", "--payload", "{}", "--payload-file", "f"], ["watch"], ["watch", "no-id"],
        ["watch", "--user", "u", "--log"], ["watch", "--user", "u", "--after", "3"],
        ["watch", "0190a000-0000-7000-8000-0000deadbeef", "--user", "u"], ["cancel"],
        ["list", "--state", "done"], ["list", "--limit", "-1"], ["limits", "set", "--user", "u"],
        ["enqueue", "k", "--soft-timeout", "5"], ["enqueue", "k", "--max-attempts", "0"],
        ["enqueue", "k", "--max-attempts=-1"], ["enqueue", "k", "--max-attempts", "101"],
        ["enqueue", "k", "--retry-factor", "0"], ["enqueue", "k", "--retry-factor", "nan"],
        ["enqueue", "k", "--retry-jitter", "2"],
        ["limits", "set", "--user", "u", "--max-running", "1", "--clear"], ["queue", "pause"],
        ["get", "0190a000-0000-7000-8000-0000deadbeef", "--result-to", "-", "--json"],
    ]) func wrongUsage(arguments: [String]) throws {
        let error = #expect(throws: (any Error).self) { try Program.parseAsRoot(arguments) }
        #expect(Program.exitCode(for: try #require(error)) == .validationFailure)
    }

    /// `--queue "$QUEUE"` where the variable is not set: an empty text would mean any queue, or no key.
    @Test(arguments: [
        ["enqueue", "", "--user", "u"], ["enqueue", "k", "--user", ""], ["enqueue", "k", "--queue", ""],
        ["enqueue", "k", "--id", ""], ["enqueue", "k", "--key", ""], ["enqueue", "k", "--content-type", ""],
        ["watch", "--user", ""], ["watch", "--user", "u", "--queue", ""], ["list", "--user", ""],
        ["list", "--queue", ""], ["list", "--kind", "k", "--kind", ""], ["stats", "--queue", ""],
        ["limits", "get", "--user", ""], ["limits", "get", "--user", "u", "--queue", ""],
        ["limits", "list", "--user", ""], ["limits", "list", "--queue", ""],
        ["limits", "set", "--user", "", "--clear"], ["queue", "pause", ""], ["queue", "resume", ""],
        ["health", "--service", ""],
    ]) func emptyTexts(arguments: [String]) throws {
        let error = #expect(throws: (any Error).self) { try Program.parseAsRoot(arguments) }
        #expect(Program.exitCode(for: try #require(error)) == .validationFailure)
        #expect(Program.message(for: try #require(error)).contains("must not be empty"))
    }

    @Test(arguments: [
        ["enqueue", "k", "--max-attempts", "1", "--retry-factor", "1", "--retry-jitter", "0"],
        ["enqueue", "k", "--payload", "-"], ["enqueue", "k", "--payload-file", "-", "--watch", "--log"],
        ["watch", "0190a000-0000-7000-8000-0000deadbeef", "--after", "3", "--timeout", "3s"],
        ["watch", "--queue", "q"], ["list", "--state", "running", "--state", "FAILED", "--label", "a=b"],
        ["stats"], ["nodes", "--json"], ["health", "--timeout", "1s"], ["queue", "resume", "q"],
        ["limits", "get", "--user", "u"], ["limits", "set", "--user", "u", "--max-running", "0"],
        ["get", "0190a000-0000-7000-8000-0000deadbeef", "--result-to", "-"],
    ]) func rightUsage(arguments: [String]) throws {
        _ = try Program.parseAsRoot(arguments)
    }

    /// As the executable has them.
    private struct Program: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "signalbox", subcommands: clientCommands)
    }

    @Test func barsAreOfWhatTheTerminalKnows() {
        #expect(WatchCommand.glyphs(environment: ["LANG": "de_DE.UTF-8"]) == .blocks)
        #expect(WatchCommand.glyphs(environment: ["LANG": "C.utf8", "LC_ALL": "C"]) == .ascii)
        #expect(WatchCommand.glyphs(environment: [:]) == .ascii)
    }
}
