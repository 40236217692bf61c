// exact in this file: commands and environments are the operator's.

import FoundationEssentials
import Glibc
package import JobModel
import NIOPosix
import Subprocess
import Synchronization

import SystemPackage

/// Runs each attempt as a session and a process group of its own: the payload on standard input, facts in the
/// environment, one JSON object a line on standard output (`CommandOutput`), log lines on standard error.
///
/// Exit code 0: done, with the last result that it wrote, or `null`. 65: failed for good (EX_DATAERR of
/// sysexits.h). Any other code or death by a signal: a failure that is retried.
///
/// When the task is cancelled the group gets SIGTERM, and SIGKILL shortly before the run's grace is
/// over, and at the latest when the run is given up. At a soft timeout it gets SIGUSR1. Whatever is left of the
/// group when its leader has exited is killed. What the command still writes while it wraps up counts: a checkpoint is
/// saved.
package struct CommandRunner: JobRunner {
    /// EX_DATAERR: no other input would make this job succeed.
    package static let exitCodePermanent: Int32 = 65

    package let command: CommandDefinition
    /// The whole environment of the command, but for the variables that describe the job.
    package let environment: [String: String]
    /// The user to run it as. Nil: the server's own. Only root can give another one.
    package let user: CommandUser?
    /// The path of setpriv(1), which starts the command with its user and its rights.
    package let setpriv: String

    /// - Parameters:
    ///   - serverEnvironment: the server's own environment, of which the command gets a part.
    ///   - user: the user that `command` names, from the system's user database.
    package init(
        _ command: CommandDefinition, serverEnvironment: [String: String] = [:], user: CommandUser? = nil,
        setpriv: String = "/usr/bin/setpriv"
    ) {
        self.command = command
        environment = CommandEnvironment.make(
            server: serverEnvironment, from: command.environmentFrom, own: command.environment, user: user)
        self.user = user
        self.setpriv = setpriv
    }

    package var definition: KindDefinition { command.definition }

    /// The arguments of setpriv: no program that the command executes gets more rights than it has (set-user-ID
    /// programs such as sudo), and its user and groups, where they are not the server's.
    fileprivate var launch: [String] {
        var arguments = ["--no-new-privs"]
        if let user, !user.isCurrentUser {
            let groups = user.supplementaryGroups.map(String.init).joined(separator: ",")
            arguments += ["--reuid=\(user.userID)", "--regid=\(user.groupID)"]
            arguments.append(groups.isEmpty ? "--clear-groups" : "--groups=\(groups)")
        }
        return arguments + ["--"] + command.command
    }

    package func run(_ run: any Run) async throws -> JobResult {
        try Task.checkCancellation()
        guard !command.command.isEmpty else {
            throw RunFailure(message: "the kind has no command", isPermanent: true)
        }
        Self.ignoreBrokenPipes()
        let (stops, stop) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        // A task of its own, which is never cancelled: a cancelled one could neither read what the command writes while it
        // wraps up nor wait for its end.
        // real time: a simulation runs no processes of the system.
        let supervised = Task {
            try await CommandRun(runner: self, run: run, stops: stops, stop: stop).outcome()
        }
        let outcome = try await withTaskCancellationHandler {
            try await supervised.value
        } onCancel: {
            stop.yield()
        }
        return try outcome.result(wasStopped: Task.isCancelled)
    }

    /// A write to a command that does not read its input is an error of that write, not our death.
    private static func ignoreBrokenPipes() {
        _ = signalIgnored
    }

    private static let signalIgnored: Void = {
        _ = signal(SIGPIPE, SIG_IGN)
    }()
}

/// One attempt of a command: from the spawn until nothing of it is left.
private struct CommandRun: Sendable {
    let runner: CommandRunner
    let run: any Run
    let stops: AsyncStream<Void>
    let stop: AsyncStream<Void>.Continuation

    /// Output that is still read when the command has exited. A process that left the group and kept the pipe could
    /// write for ever.
    private static let bytesAfterExitMax = 1 << 20

    /// Longer than any timeout (30 days).
    private static let forever: Duration = .seconds(100 * 86_400)

    func outcome() async throws -> CommandOutcome {
        let checkpoint = try await saveCheckpoint()
        let outcome: Result<CommandOutcome, any Error>
        do {
            outcome = .success(try await spawned(checkpoint: checkpoint))
        } catch let error as SubprocessError {
            // Retried, because a deployment may fix it.
            outcome = .failure(
                RunFailure(
                    message: Self.message(for: error),
                    details: "the command \(runner.command.command[0]) did not run: \(error)"))
        } catch {
            outcome = .failure(error)
        }
        if let checkpoint {
            // The command may have removed it already.
            try? await NIOThreadPool.singleton.runIfActive { _ = unlink(checkpoint) }
        }
        return try outcome.get()
    }

    /// Without the paths that the error's own description has.
    private static func message(for error: SubprocessError) -> String {
        switch error.code {
        case .executableNotFound:
            "the command cannot be started: setpriv(1) was not found, or cannot be executed"
        case .failedToChangeWorkingDirectory: "the command's working directory cannot be used"
        default: "the command could not be run" + (error.underlyingError.map { ": \($0)" } ?? "")
        }
    }

    private func spawned(checkpoint: String?) async throws -> CommandOutcome {
        var options = PlatformOptions()
        // A session of its own, whose leader leads a process group, too. In the server's, a command could write to the
        // terminal from which the server was started, and type into it (ioctl TIOCSTI).
        options.createSession = true
        // setpriv(1) changes the user, not `options.userID`: glibc's setuid may wait in the child for a lock that
        // another thread held when it was forked. It then executes the command, in the same process.
        let result = try await Subprocess.run(
            .path(FilePath(runner.setpriv)),
            arguments: Arguments(runner.launch),
            environment: environment(checkpoint: checkpoint),
            workingDirectory: runner.command.workingDirectory.map { FilePath($0) },
            platformOptions: options,
            input: .inputWriter, output: .sequence, error: .sequence
        ) { execution in
            let hasExited = Flag()
            // The three that end by themselves; the others are cancelled when this scope ends.
            async let exit: Void = waitForExit(execution, then: hasExited)
            async let errors = readErrors(execution.standardError, hasExited)
            async let output = readOutput(execution.standardOutput, hasExited)
            async let _ = feed(execution.standardInputWriter)
            async let _ = forwardSoftTimeout(execution)
            async let _ = stopOnRequest(execution)
            async let _ = killWhenAbandoned(execution)
            var outcome = await output
            (outcome.errorTail, outcome.launchError) = await errors
            await exit
            return outcome
        }
        var outcome = result.closureResult
        outcome.status = result.terminationStatus
        return outcome
    }

    private func feed(_ writer: StandardInputWriter) async {
        // It fails when the command does not read all of it, which a command may do.
        _ = try? await writer.write(run.payload)
        try? await writer.finish()
    }

    private func waitForExit<I, O, E>(_ execution: Execution<I, O, E>, then hasExited: Flag) async {
        // Signal 0 has no effect, so this teardown only waits.
        await execution.teardown(using: [
            .send(signal: Signal(rawValue: 0), allowedDurationToNextStep: Self.forever)
        ])
        // The leader is not reaped before this scope ends, so the group's number is still ours.
        try? execution.send(signal: .kill, toProcessGroup: true)
        hasExited.raise()
    }

    private func stopOnRequest<I, O, E>(_ execution: Execution<I, O, E>) async {
        for await _ in stops {
            // A little less than the grace: the run is written off at its end.
            let patience = run.grace - min(run.grace / 10, .milliseconds(500))
            await execution.teardown(using: [
                .gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: patience)
            ])
            return
        }
    }

    /// `stopOnRequest` knows the grace as of the first stop. A lost lease or a shutdown may leave less.
    private func killWhenAbandoned<I, O, E>(_ execution: Execution<I, O, E>) async {
        guard (try? await run.abandoned()) != nil else { return }
        try? execution.send(signal: .kill, toProcessGroup: true)
    }

    private func forwardSoftTimeout<I, O, E>(_ execution: Execution<I, O, E>) async {
        guard runner.definition.softTimeout != nil, (try? await run.softTimeout()) != nil else { return }
        try? execution.send(signal: .userDefinedOne, toProcessGroup: true)
    }

    /// Returns the end of standard error, and what setpriv(1) wrote if it may not have started the command.
    private func readErrors(
        _ stream: SubprocessOutputSequence, _ hasExited: Flag
    ) async -> (tail: [UInt8], launchError: String?) {
        var tail: [UInt8] = []
        var launchError: String?
        var isFirst = true
        await read(stream, LineSplitter(recordBytesMax: JobLimits.logMessageBytesMax), hasExited) { line in
            defer { isFirst = false }
            if isFirst, line.bytes.starts(with: Self.launcherPrefix) {
                // It names a path of the server, which is not for the job's log.
                launchError = String(decoding: line.bytes, as: UTF8.self)
                return
            }
            run.log(.warning, String(decoding: line.bytes, as: UTF8.self))
            tail.append(contentsOf: line.bytes)
            tail.append(UInt8(ascii: "\n"))
            tail.removeFirst(max(0, tail.count - CommandOutcome.errorTailBytesMax))
        }
        return (tail, launchError)
    }

    private static let launcherPrefix = Array("setpriv: ".utf8)

    private func readOutput(_ stream: SubprocessOutputSequence, _ hasExited: Flag) async -> CommandOutcome {
        var outcome = CommandOutcome()
        await read(stream, LineSplitter(), hasExited) { line in
            for record in CommandOutput.records(in: line) where outcome.refusal == nil {
                do {
                    try await take(record, into: &outcome)
                } catch {
                    // The rest of the output is read and dropped, so that the command can end.
                    outcome.refusal = error
                    stop.yield()
                }
            }
        }
        return outcome
    }

    /// Handles the lines of each chunk before it reads the next one, so that a command waits when it writes faster than
    /// checkpoints are saved, or than `OutputPace` allows (backpressure). There may always be another line and another
    /// chunk, so it lets other tasks go on in between.
    private func read(
        _ stream: SubprocessOutputSequence, _ splitter: consuming LineSplitter, _ hasExited: Flag,
        each: (LineSplitter.Line) async -> Void
    ) async {
        var splitter = splitter
        var bytesAfterExit = 0
        var pace = OutputPace(now: now())
        var chunks = stream.makeAsyncIterator()
        // A read error ends the output as its end does; the exit code then tells the rest.
        while bytesAfterExit <= Self.bytesAfterExitMax, let chunk = try? await chunks.next() {
            var lines: [LineSplitter.Line] = []
            let bytes = chunk.withUnsafeBytes { Array($0) }
            splitter.feed(bytes) { lines.append($0) }
            for (index, line) in lines.enumerated() {
                await each(line)
                if index % OutputPace.linesAtOnce == 0 { await Task.yield() }
            }
            await Task.yield()
            if hasExited.isRaised { bytesAfterExit += bytes.count }
            await pause(for: pace.read(bytes: bytes.count, lines: lines.count, now: now()), until: hasExited)
        }
        if let line = splitter.finish() { await each(line) }
    }

    private func pause(for pause: Duration, until hasExited: Flag) async {
        let end = now() + pause
        while !hasExited.isRaised {
            let left = now().duration(to: end)
            guard left > .zero else { return }
            // real time: it is about processes of the system.
            try? await Task.sleep(for: min(left, .milliseconds(20)))
        }
    }

    // real time: it is about processes of the system.
    private func now() -> ContinuousClock.Instant { .now }

    private func take(_ record: CommandRecord, into outcome: inout CommandOutcome) async throws {
        switch record {
        case .progress(let progress):
            run.report(
                stage: progress.stage, fraction: progress.fraction, message: progress.message,
                done: progress.done, total: progress.total)
        case .log(let level, let message): run.log(level, message)
        case .checkpoint(let bytes): try await run.save(checkpoint: bytes)
        case .result(let result): outcome.reported = result
        case .retryAfter(let delay): outcome.retryAfter = delay
        case .error(let reason, let message): outcome.error = (reason, message)
        case .violation(let message):
            throw RunFailure(
                message: "the output of the command is invalid: " + message, isPermanent: true)
        }
    }

    /// The definition's, then the job's facts.
    private func environment(checkpoint: String?) -> Environment {
        var variables: [Environment.Key: String] = [:]
        for (name, value) in runner.environment { variables[.init(rawValue: name)!] = value }
        variables["SIGNALBOX_JOB_ID"] = run.jobID.description
        variables["SIGNALBOX_ATTEMPT"] = String(run.attempt)
        variables["SIGNALBOX_ATTEMPTS_USED"] = String(run.attemptsUsed)
        variables["SIGNALBOX_MAX_ATTEMPTS"] = String(run.maxAttempts)
        variables["SIGNALBOX_KIND"] = run.kind
        variables["SIGNALBOX_USER_ID"] = run.userID
        variables["SIGNALBOX_QUEUE"] = run.queue
        variables["SIGNALBOX_CONTENT_TYPE"] = run.contentType
        variables["SIGNALBOX_CHECKPOINT"] = checkpoint
        return .custom(variables)
    }

    /// A new file with the checkpoint in it, which only the command's user can read; nil where there is none.
    ///
    /// It is a file without a folder of its own: that would belong to the command's user, and a server that is root
    /// could be led elsewhere by links in it when it is removed.
    private func saveCheckpoint() async throws -> String? {
        guard let checkpoint = run.checkpoint else { return nil }
        // real time: a name for a file of the system.
        let path = FileManager.default.temporaryDirectory.path + "/signalbox-" + UUID().uuidString
        do {
            // Writing a file blocks, so it is not done on the cooperative pool.
            return try await NIOThreadPool.singleton.runIfActive {
                let file = try FileDescriptor.open(
                    path, .writeOnly, options: [.create, .exclusiveCreate, .noFollow, .closeOnExec],
                    permissions: [.ownerReadWrite])
                do {
                    try file.closeAfter {
                        try file.writeAll(checkpoint)
                        guard let user = runner.user, !user.isCurrentUser else { return }
                        guard fchown(file.rawValue, user.userID, user.groupID) == 0 else {
                            throw Errno(rawValue: errno)
                        }
                    }
                } catch {
                    unlink(path)
                    throw error
                }
                return path
            }
        } catch {
            throw RunFailure(
                message: "the checkpoint could not be passed to the command",
                details: "the checkpoint's file was not written: \(error)")
        }
    }
}

/// The end of a command.
private struct CommandOutcome: Sendable {
    static let errorTailBytesMax = 2 << 10

    var status: TerminationStatus?
    var reported: JobResult?
    var retryAfter: Duration?
    var error: (reason: String?, message: String?)?
    /// The error for which the rest of the output is dropped: a limit was exceeded, or the run no longer belongs to this
    /// node.
    var refusal: (any Error)?
    var errorTail: [UInt8] = []
    /// The first line on standard error, where it is one of setpriv(1).
    var launchError: String?

    /// The exit codes with which setpriv(1) says that it could not execute the command.
    private static let launchFailed: ClosedRange<Int32> = 126...127

    func result(wasStopped: Bool) throws -> JobResult {
        if let refusal { throw refusal }
        if status == .exited(0), let reported { return reported }
        // Many programs exit with 0 after SIGTERM; that is not success.
        if wasStopped { throw CancellationError() }
        switch status {
        case .exited(0):
            return JobResult(data: Array("null".utf8), contentType: JobLimits.defaultContentType)
        case .exited(CommandRunner.exitCodePermanent):
            throw failure("exit code \(CommandRunner.exitCodePermanent)", isPermanent: true)
        case .exited(let code):
            if let launchError, Self.launchFailed.contains(code) {
                // A deploy mends it, so it is retried.
                throw RunFailure(
                    message: "the command was not found, or cannot be executed", details: launchError)
            }
            throw failure("exit code \(code)")
        case .signaled(let signal): throw failure("killed by \(Self.name(ofSignal: signal))")
        case nil: throw failure("no exit status")
        }
    }

    private func failure(_ what: String, isPermanent: Bool = false) -> RunFailure {
        var message = error?.message.map { "\($0) (\(what))" } ?? "the command failed: \(what)"
        let tail = String(decoding: errorTail, as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: true).joined(separator: "\n")
        let room = JobLimits.errorMessageBytesMax - CommandOutcome.errorTailBytesMax - 1
        if !tail.isEmpty { message = message.cut(toBytes: room) + "\n" + tail }
        return RunFailure(
            reason: error?.reason ?? "",
            message: message.cut(toBytes: JobLimits.errorMessageBytesMax), isPermanent: isPermanent,
            retryAfter: retryAfter)
    }

    private static func name(ofSignal signal: Int32) -> String {
        let names: [Int32: String] = [
            SIGHUP: "SIGHUP", SIGINT: "SIGINT", SIGQUIT: "SIGQUIT", SIGILL: "SIGILL", SIGTRAP: "SIGTRAP",
            SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE", SIGKILL: "SIGKILL", SIGUSR1: "SIGUSR1",
            SIGSEGV: "SIGSEGV", SIGUSR2: "SIGUSR2", SIGPIPE: "SIGPIPE", SIGALRM: "SIGALRM",
            SIGTERM: "SIGTERM", SIGXCPU: "SIGXCPU", SIGXFSZ: "SIGXFSZ", SIGSYS: "SIGSYS",
        ]
        return names[signal].map { "signal \(signal) (\($0))" } ?? "signal \(signal)"
    }
}

/// A Boolean that is set at most once.
private final class Flag: Sendable {
    private let value = Atomic(false)

    var isRaised: Bool { value.load(ordering: .acquiring) }

    func raise() {
        value.store(true, ordering: .releasing)
    }
}
