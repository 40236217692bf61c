import Dialogue
import Foundation
import Signalbox

/// An example of a server of your own: `signalbox-dialogue serve`, with one more kind, `speech.dialogue`.
@main
struct DialogueServer {
    static func main() async {
        let storage = ProcessInfo.processInfo.environment["DIALOGUE_STORAGE"] ?? "storage"
        let dialogue = Dialogue(storage: storage)
        // What it leaves, the next start removes.
        try? await dialogue.sweep()
        await SignalboxServer.main(handlers: [SpeakDialogue(dialogue: dialogue)])
    }
}

/// Speaks a dialogue into a file; see `DialogueInput` for what it takes and `DialogueOutput` for its result.
struct SpeakDialogue: JobHandler {
    static let kind = "speech.dialogue"
    /// For the longest dialogue; the caller of a short one can set less.
    let timeout: Duration = .seconds(3600)
    let dialogue: Dialogue

    func run(_ input: DialogueInput, context: JobContext) async throws -> DialogueOutput {
        do {
            return try await dialogue.speak(
                input, id: context.jobID, checkpoint: context.checkpoint(),
                report: { progress in
                    context.report(
                        fraction: progress.fraction, message: progress.message, stage: progress.stage,
                        step: progress.step, steps: progress.steps)
                },
                save: { try await context.saveCheckpoint($0) })
        } catch let error as DialogueError {
            // An error that may not happen again is about the programs and files of this server, so only the log has it.
            throw error.isPermanent
                ? JobFailure.permanent(error.message)
                : .retry("the dialogue could not be spoken", details: error.message)
        }
    }
}
