import Subprocess

import SystemPackage

/// Runs a program to its end.
enum Tool {
    /// - Returns: the program's output, at most 1 MiB, and its error output, at most 64 KiB.
    /// - Throws: a retryable `DialogueError` if the program is missing or fails; `CancellationError` if the task
    ///   was cancelled. The program has then received SIGTERM, after 2 s SIGKILL, and has ended.
    static func run(_ program: String, _ arguments: [String]) async throws -> (output: String, errors: String)
    {
        try Task.checkCancellation()
        var options = PlatformOptions()
        options.processGroupID = 0
        options.teardownSequence = [
            .gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: .seconds(2))
        ]
        do {
            let result = try await Subprocess.run(
                program.contains("/") ? .path(FilePath(program)) : .name(program),
                arguments: Arguments(arguments), platformOptions: options, input: .none,
                output: .string(limit: 1 << 20), error: .string(limit: 64 << 10))
            try Task.checkCancellation()
            let errors = result.standardError
            guard result.terminationStatus.isSuccess else {
                throw DialogueError.retryable("\(program) failed, \(result.terminationStatus): \(errors)")
            }
            return (result.standardOutput, errors)
        } catch let error as SubprocessError {
            try Task.checkCancellation()
            throw DialogueError.retryable("\(program) did not run: \(error)")
        }
    }
}
