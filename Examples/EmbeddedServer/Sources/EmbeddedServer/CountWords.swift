import Signalbox

/// Counts the words of texts, one after the other; after an interruption it goes on with the next text.
struct CountWords: JobHandler {
    static let kind = "text.count"
    let timeout: Duration = .seconds(60)

    struct Input: Codable, Sendable {
        var texts: [String]
    }

    func run(_ input: Input, context: JobContext) async throws -> [Int] {
        guard !input.texts.isEmpty else {
            throw JobFailure.permanent("there are no texts", reason: "no_texts")
        }
        var counts = try context.checkpoint(as: [Int].self) ?? []
        for text in input.texts.dropFirst(counts.count) {
            try Task.checkCancellation()
            counts.append(text.split(whereSeparator: \.isWhitespace).count)
            try await context.saveCheckpoint(counts)
            context.report(step: counts.count, of: input.texts.count, stage: "counting")
        }
        return counts
    }
}
