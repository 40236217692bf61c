import Foundation
import JobModel
import JobEngine
import Subprocess
import Support
import Testing

@Suite(.timeLimit(.minutes(2))) struct CommandRunnerTests {
    private func runner(
        _ script: String, softTimeout: Duration? = nil, workingDirectory: String? = nil,
        environment: [String: String] = [:], user: CommandUser? = nil
    ) -> CommandRunner {
        CommandRunner(
            CommandDefinition(
                KindDefinition(kind: "test.command", timeout: .seconds(60), softTimeout: softTimeout),
                command: ["/bin/sh", "-c", script], workingDirectory: workingDirectory,
                environment: environment),
            user: user)
    }

    private func failure(_ runner: CommandRunner, _ run: FakeRun = FakeRun()) async throws -> RunFailure {
        try await #require(throws: RunFailure.self) { try await runner.run(run) }
    }

    private func text(_ result: JobResult) -> String {
        String(decoding: result.data, as: UTF8.self)
    }

    // MARK: What goes in

    @Test func givesThePayloadOnStandardInput() async throws {
        let payload = "\"" + String(repeating: "p", count: 300_000) + "\""
        let result = try await runner(#"printf '{"result":'; cat; echo '}'"#).run(FakeRun(payload: payload))
        #expect(text(result) == payload)
        #expect(result.contentType == "application/json")
    }

    @Test(arguments: ["exit 0", "exec <&-; echo closed; exit 0"])
    func aCommandNeedNotReadItsInput(_ script: String) async throws {
        let payload = String(repeating: "p", count: 1 << 20)
        let result = try await runner(script).run(FakeRun(payload: payload))
        #expect(text(result) == "null")
    }

    @Test func tellsFacts() async throws {
        let run = FakeRun(attempt: 2, contentType: "text/plain")
        _ = try await runner("env; pwd", workingDirectory: "/usr", environment: ["COLOUR": "red"]).run(run)
        let lines = Set(run.logLines)
        for line in [
            "SIGNALBOX_JOB_ID=\(run.jobID)", "SIGNALBOX_ATTEMPT=2", "SIGNALBOX_ATTEMPTS_USED=2",
            "SIGNALBOX_MAX_ATTEMPTS=3", "SIGNALBOX_KIND=test.command", "SIGNALBOX_USER_ID=user-1",
            "SIGNALBOX_QUEUE=audio",
            "SIGNALBOX_CONTENT_TYPE=text/plain", "COLOUR=red", "/usr",
        ] {
            #expect(lines.contains(line))
        }
        #expect(!lines.contains { $0.hasPrefix("SIGNALBOX_CHECKPOINT=") })
    }

    /// In a process of its own: what sets the environment must not run beside what reads it.
    @Test func hasNothingOfTheServersEnvironmentButWhatItIsGiven() async {
        await #expect(processExitsWith: .success) {
            setenv("DATABASE_URL", "postgres://secret", 1)
            let run = FakeRun()
            _ = try await CommandRunnerTests().runner("env", environment: ["COLOUR": "red"]).run(run)
            #expect(run.logLines.contains("COLOUR=red"))
            #expect(!run.logLines.contains { $0.contains("secret") })
        }
    }

    @Test func neverGetsNewPrivileges() async throws {
        let run = FakeRun()
        _ = try await runner("grep NoNewPrivs /proc/self/status").run(run)
        #expect(run.logLines == ["NoNewPrivs:\t1"])
    }

    /// setpriv(1) executes it, and leaves no process of its own.
    @Test func isAChildOfTheServerAndLeadsItsGroup() async throws {
        let run = FakeRun()
        _ = try await runner(#"echo "$PPID $(($(cut -d' ' -f5 /proc/$$/stat) - $$))""#).run(run)
        #expect(run.logLines == ["\(getpid()) 0"])
    }

    @Test(
        .enabled(if: geteuid() == 0, "only root changes users"),
        arguments: [0, 2])
    func runsAsItsUser(groupCount: Int) async throws {
        let groups = (0..<groupCount).map { gid_t(54_323 + $0) }
        let user = CommandUser(
            userID: 54_321, groupID: 54_322, supplementaryGroups: groups, name: nil, home: "/")
        let run = FakeRun(checkpoint: "3")
        let script = #"""
            grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status | tr -s '\t ' ' '
            stat -c '%a %u %g' "$SIGNALBOX_CHECKPOINT"; cat "$SIGNALBOX_CHECKPOINT"; echo
            """#
        _ = try await runner(script, user: user).run(run)
        #expect(
            run.logLines == [
                "Uid: 54321 54321 54321 54321", "Gid: 54322 54322 54322 54322",
                "Groups: " + groups.map { "\($0) " }.joined(), "CapEff: 0000000000000000",
                "600 54321 54322", "3",
            ])
    }

    /// A user that is none of ours can leave nothing in the checkpoint's place that its removal follows.
    @Test func aCheckpointThatTheCommandReplacesIsRemovedAlone() async throws {
        let victim = FileManager.default.temporaryDirectory.path + "/victim-" + UUID().uuidString
        try Data("kept".utf8).write(to: URL(filePath: victim))
        defer { unlink(victim) }
        let run = FakeRun(checkpoint: "3")
        let script = #"ln -sf "$VICTIM" "$SIGNALBOX_CHECKPOINT"; echo "$SIGNALBOX_CHECKPOINT""#
        _ = try await runner(script, environment: ["VICTIM": victim]).run(run)
        #expect(FileManager.default.contents(atPath: victim) == Data("kept".utf8))
        var status = stat()
        #expect(lstat(try #require(run.logLines.first), &status) == -1 && errno == ENOENT)
    }

    @Test func givesTheCheckpointInAPrivateFileAndRemovesIt() async throws {
        let run = FakeRun(checkpoint: #"{"step":3}"#)
        let result = try await runner(
            #"""
            echo "$SIGNALBOX_CHECKPOINT"; stat -c %a "$SIGNALBOX_CHECKPOINT"
            printf '{"result":%s}\n' "$(cat "$SIGNALBOX_CHECKPOINT")"
            """#
        ).run(run)
        #expect(text(result) == #"{"step":3}"#)
        #expect(run.logLines.last == "600")
        let path = try #require(run.logLines.first)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    // MARK: What comes out

    @Test func passesOnWhatTheCommandSays() async throws {
        let run = FakeRun()
        let result = try await runner(
            #"""
            echo '{"progress":{"stage":"work","done":1,"total":2}}'
            echo '{"checkpoint":{"step":1}}'
            echo '{"log":{"level":"error","message":"bad"}}'
            echo plain
            printf '{"result_base64":"AAE=","content_type":"audio/wav"}'
            """#
        ).run(run)
        #expect(result == JobResult(data: [0, 1], contentType: "audio/wav"))
        #expect(
            run.said == [
                .progress(stage: "work", fraction: 0.5, message: "", done: 1, total: 2),
                .checkpoint(#"{"step":1}"#), .log(.error, "bad"), .log(.info, "plain"),
            ])
    }

    @Test func standardErrorIsLogged() async throws {
        let run = FakeRun()
        _ = try await runner("echo first >&2; head -c 5000 /dev/zero | tr '\\0' x >&2").run(run)
        #expect(
            run.said == [.log(.warning, "first"), .log(.warning, String(repeating: "x", count: 4096))])
    }

    @Test func otherExitCodesAreRetriedFailures() async throws {
        let lines = "i=0; while [ $i -lt 300 ]; do echo line $i >&2; i=$((i+1)); done; exit 3"
        let failure = try await failure(runner(lines))
        #expect(failure.reason.isEmpty && !failure.isPermanent)
        #expect(failure.message.hasPrefix("the command failed: exit code 3\n"))
        #expect(failure.message.hasSuffix("\nline 299"))
        #expect(failure.message.utf8.count < 2200)
    }

    @Test func exitCode65IsForGood() async throws {
        let failure = try await failure(
            runner(#"echo '{"error":{"reason":"no_voice","message":"no such voice"}}'; exit 65"#))
        #expect(
            failure
                == RunFailure(
                    reason: "no_voice", message: "no such voice (exit code 65)", isPermanent: true))
    }

    @Test func aCommandMaySayWhenToTryAgain() async throws {
        let failure = try await failure(runner(#"echo '{"retry_after_ms":250}'; exit 75"#))
        #expect(failure.retryAfter == .milliseconds(250) && !failure.isPermanent)
    }

    @Test func namesTheSignalThatKilledIt() async throws {
        let failure = try await failure(runner("kill -SEGV $$"))
        #expect(failure.message == "the command failed: killed by signal 11 (SIGSEGV)")
        #expect(!failure.isPermanent)
    }

    @Test func anOversizedResultFailsForGoodAndStopsTheCommand() async throws {
        let failure = try await failure(
            runner(
                #"printf '{"result":"'; head -c 1048576 /dev/zero | tr '\0' x; echo '"}'; exec sleep 600"#))
        #expect(failure.isPermanent)
        #expect(
            failure.message
                == "the output of the command is invalid: a result of 1048578 bytes is over the limit of 1048576"
        )
    }

    @Test func aRefusedCheckpointEndsTheRun() async throws {
        let run = FakeRun(saveError: CancellationError())
        await #expect(throws: CancellationError.self) {
            try await runner(#"echo '{"checkpoint":1}'; exec sleep 600"#).run(run)
        }
    }

    @Test(arguments: ["/nowhere/tool", "no-such-tool-anywhere", "/etc/passwd"])
    func aMissingExecutableIsRetried(_ path: String) async throws {
        let definition = KindDefinition(kind: "k", timeout: .seconds(1))
        let failure = try await failure(CommandRunner(CommandDefinition(definition, command: [path])))
        #expect(!failure.isPermanent)
        #expect(failure.message == "the command was not found, or cannot be executed")
        #expect(failure.details?.contains(path) == true)
    }

    @Test func aMissingSetprivIsRetried() async throws {
        let definition = KindDefinition(kind: "k", timeout: .seconds(1))
        let command = CommandDefinition(definition, command: ["tool"])
        let failure = try await failure(CommandRunner(command, setpriv: "/nowhere/setpriv"))
        #expect(!failure.isPermanent && !failure.message.contains("/nowhere"))
        #expect(failure.details?.contains("/nowhere/setpriv") == true)
    }

    /// Where it is, and where its files are, is not for the job's user.
    @Test func aMissingFolderIsForTheLog() async throws {
        let failure = try await failure(runner("true", workingDirectory: "/nowhere/at-all"))
        #expect(!failure.isPermanent && failure.message == "the command's working directory cannot be used")
        #expect(failure.details?.contains("/nowhere/at-all") == true)
    }

    // MARK: Ends

    /// A named pipe whose writers are the processes under test: its reader ends when the last of them is
    /// dead.
    private func withFifo<T>(_ body: (String) async throws -> T) async throws -> T {
        let path = FileManager.default.temporaryDirectory.path + "/fifo-" + UUID().uuidString
        try #require(mkfifo(path, 0o600) == 0)
        defer { unlink(path) }
        async let reader = Subprocess.run(
            .name("cat"), arguments: [path], output: .string(limit: 4096))
        let value = try await body(path)
        _ = try await reader
        return value
    }

    /// A child of the command that holds the pipe and does not mind SIGTERM.
    private static let stubborn = #"(trap "" TERM; exec 9>"$FIFO"; echo up; while :; do sleep 600; done)"#

    @Test func cancellationStopsTheCommandAndHearsItsLastWords() async throws {
        let run = FakeRun()
        let script = #"""
            trap 'echo "{\"checkpoint\":{\"step\":9}}"; exit 0' TERM
            echo up; while :; do sleep 600 & wait $!; done
            """#
        let task = Task { [runner = runner(script)] in try await runner.run(run) }
        await run.waits(forLog: "up")
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(run.said.contains(.checkpoint(#"{"step":9}"#)))
    }

    @Test func aStubbornGroupIsKilledAfterTheGrace() async throws {
        try await withFifo { path in
            let run = FakeRun(grace: .milliseconds(100))
            let script = #"trap "" TERM; \#(Self.stubborn) & while :; do sleep 600; done"#
            let task = Task { [runner = runner(script, environment: ["FIFO": path])] in
                try await runner.run(run)
            }
            await run.waits(forLog: "up")
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }

    /// A second stop may leave less time than the first, at which the command's grace was measured.
    @Test func aStubbornGroupIsKilledWhenItsRunIsGivenUp() async throws {
        try await withFifo { path in
            let run = FakeRun(grace: .seconds(600))
            let script = #"trap "" TERM; \#(Self.stubborn) & while :; do sleep 600; done"#
            let task = Task { [runner = runner(script, environment: ["FIFO": path])] in
                try await runner.run(run)
            }
            await run.waits(forLog: "up")
            task.cancel()
            run.abandon()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }

    @Test func whatIsLeftOfTheGroupIsKilled() async throws {
        try await withFifo { path in
            let run = FakeRun()
            // The leader exits once its child is up, whose output pipe stays open.
            let script =
                #"mkfifo "$FIFO.up"; \#(Self.stubborn) >"$FIFO.up" & read line <"$FIFO.up"; rm "$FIFO.up""#
            let result = try await runner(script, environment: ["FIFO": path]).run(run)
            #expect(text(result) == "null")
        }
    }

    @Test func aResultCountsEvenWhenTheCommandWasStopped() async throws {
        let run = FakeRun()
        let script = #"""
            trap 'echo "{\"result\":\"whole\"}"; exit 0' TERM
            echo up; while :; do sleep 600 & wait $!; done
            """#
        let task = Task { [runner = runner(script)] in try await runner.run(run) }
        await run.waits(forLog: "up")
        task.cancel()
        #expect(text(try await task.value) == "\"whole\"")
    }

    @Test func theSoftTimeoutIsASignal() async throws {
        let run = FakeRun()
        let script = #"""
            trap 'echo "{\"result\":\"partial\"}"; exit 0' USR1
            echo up; while :; do sleep 600 & wait $!; done
            """#
        let task = Task { [runner = runner(script, softTimeout: .seconds(1))] in try await runner.run(run) }
        await run.waits(forLog: "up")
        run.reachSoftTimeout()
        #expect(text(try await task.value) == "\"partial\"")
    }

    @Test func manyRunAtOnce() async throws {
        try await withThrowingTaskGroup(of: String.self) { group in
            for number in 0..<24 {
                group.addTask { [runner = runner(#"printf '{"result":%s}' "$(cat)""#)] in
                    String(
                        decoding: try await runner.run(FakeRun(payload: String(number))).data, as: UTF8.self)
                }
            }
            let results = try await group.reduce(into: Set<String>()) { $0.insert($1) }
            #expect(results == Set((0..<24).map(String.init)))
        }
    }
}
