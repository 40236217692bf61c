import Dialogue
import Foundation
import Logging
import Signalbox

/// An example of a server of your own: `signalbox-dialogue serve`, with one more kind, `speech.dialogue`.
@main
struct DialogueServer {
    static func main() async {
        let storage = ProcessInfo.processInfo.environment["DIALOGUE_STORAGE"] ?? "storage"
        let dialogue = Dialogue(storage: storage)
        // A sweep that fails is made up for by that of the next start.
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
                input, id: context.jobID, checkpoint: checkpoint(in: context),
                report: { progress in
                    context.report(
                        step: progress.step, of: progress.steps, message: progress.message,
                        stage: progress.stage)
                },
                save: { try await context.saveCheckpoint($0) })
        } catch let error as DialogueError {
            // An error that may not happen again is about the programs and files of this server: only the log has it.
            throw error.isPermanent
                ? JobFailure.permanent(error.message)
                : .retry("the dialogue could not be spoken", details: error.message)
        }
    }

    /// A checkpoint of another version of this program only costs the work that it stands for.
    private func checkpoint(in context: JobContext) -> DialogueCheckpoint? {
        do {
            return try context.checkpoint()
        } catch {
            context.logger.notice("starting over", metadata: ["error": "\(error)"])
            return nil
        }
    }
}
