package import Foundation

/// Speaks dialogues: each turn by its provider, then all turns joined and encoded.
package struct Dialogue: Sendable {
    /// The silence between two turns.
    package static let pauseMilliseconds = 200

    /// The folder of dialogues that are spoken by more than one provider.
    private static let mixed = "mixed"

    private let storage: String
    private let tools: DialogueTools

    /// - Parameter storage: the folder for all files. It is made when it is needed.
    package init(storage: String, tools: DialogueTools = DialogueTools()) {
        self.storage = storage
        self.tools = tools
    }

    /// Speaks `input` into `<storage>/<provider>/<id>.<format>`.
    ///
    /// The spoken turns are kept in a work folder until the end, one file per turn, and `save` gets a checkpoint
    /// after each. With the checkpoint of an earlier attempt, turns whose files are unchanged are not spoken
    /// again.
    ///
    /// - Throws: `DialogueError`; `CancellationError` when the task is cancelled, once the program that it ran
    ///   has ended; errors of `save`.
    package func speak(
        _ input: DialogueInput, id: UUID, checkpoint: DialogueCheckpoint? = nil,
        report: @Sendable (DialogueProgress) -> Void,
        save: @Sendable (DialogueCheckpoint) async throws -> Void
    ) async throws -> DialogueOutput {
        let voices = try input.turnVoices()
        let providers = Set(voices.map(\.provider))
        let folder = storage + "/" + (providers.count == 1 ? voices[0].provider.rawValue : Self.mixed)
        let name = id.uuidString.lowercased()
        let work = Self.workFolder(of: folder) + "/" + name
        do {
            try await check(voices, of: input)
        } catch let error as DialogueError where error.isPermanent {
            // No attempt follows that could use the turns that were spoken. A folder that cannot be removed is
            // left to `sweep`.
            try? await Files.remove(work)
            throw error
        }
        try await Files.createFolder(work)

        let steps = input.turns.count
        func progress(_ stage: String, _ message: String, step: Int) -> DialogueProgress {
            // The encoding counts as one more step.
            DialogueProgress(stage: stage, message: message, step: step, steps: steps + 1)
        }

        var done = DialogueCheckpoint(turns: try await intactTurns(checkpoint, of: input, in: work))
        for index in done.turns.count..<steps {
            let turn = input.turns[index]
            report(progress("speaking", turn.speaker, step: index))
            done.turns.append(try await speak(turn.text, with: voices[index], number: index + 1, in: work))
            try await save(done)
        }

        report(progress("encoding", input.format.rawValue, step: steps))
        let path = "\(folder)/\(name).\(input.format.rawValue)"
        let counts = try await encode(done, as: input.format, into: path, work: work)
        let (bytes, sha256) = try await Files.digest(path)
        try await Files.remove(work)
        report(progress("done", path, step: steps + 1))
        return output(input, path: path, bytes: bytes, sha256: sha256, sampleCounts: counts)
    }

    /// Removes the work folders to which nothing was added for `age`. They are left by jobs that were cancelled,
    /// or whose last attempt failed.
    package func sweep(olderThan age: TimeInterval = 7 * 86_400) async throws {
        let date = Date(timeIntervalSinceNow: -age)
        for provider in SpeechProvider.allCases.map(\.rawValue) + [Self.mixed] {
            try await Files.removeEntries(
                of: Self.workFolder(of: "\(storage)/\(provider)"), changedBefore: date)
        }
    }

    private static func workFolder(of folder: String) -> String { folder + "/.work" }

    /// Checks that each voice is one that its provider has.
    private func check(_ voices: [Voice], of input: DialogueInput) async throws {
        for provider in Set(voices.map(\.provider)) {
            let list = try await tools.voices(of: provider)
            guard !list.names.isEmpty else {
                throw DialogueError.retryable("\(provider.rawValue) lists no voices")
            }
            for (index, voice) in voices.enumerated()
            where voice.provider == provider && !list.has(voice.name) {
                throw DialogueError.permanent(
                    "the voice of '\(input.turns[index].speaker)': \(provider.rawValue) has no voice "
                        + "'\(voice.name)'; it has \(list.names.joined(separator: ", "))")
            }
        }
    }

    /// The turns that need not be spoken again: those before the first one whose file has changed.
    private func intactTurns(
        _ checkpoint: DialogueCheckpoint?, of input: DialogueInput, in work: String
    ) async throws -> [DialogueCheckpoint.Turn] {
        var turns: [DialogueCheckpoint.Turn] = []
        for turn in (checkpoint?.turns ?? []).prefix(input.turns.count) {
            let file = Self.fileName(ofTurn: turns.count + 1)
            let path = "\(work)/\(file)"
            guard turn.file == file, try await Files.exists(path),
                try await Files.digest(path).sha256 == turn.sha256
            else { break }
            turns.append(turn)
        }
        return turns
    }

    private func speak(
        _ text: String, with voice: Voice, number: Int, in work: String
    ) async throws -> DialogueCheckpoint.Turn {
        let file = Self.fileName(ofTurn: number)
        let path = "\(work)/\(file)"
        let (textPath, spoken, resampled) = (path + ".txt", path + ".spoken.wav", path + ".part")
        // Files that an earlier attempt left could be taken for this attempt's.
        try await Files.remove(textPath, spoken, resampled)
        try await Files.write(text, to: textPath)
        try await tools.speak(text: textPath, with: voice, into: spoken)
        // All turns get the same sample rate, so that they can be joined.
        try await ffmpeg(
            [
                "-i", spoken, "-ac", "1", "-ar", String(WaveFile.rate), "-c:a", "pcm_s16le", "-f", "wav",
                resampled,
            ])
        try await Files.rename(resampled, to: path)
        try await Files.remove(textPath, spoken)
        let (bytes, sha256) = try await Files.digest(path)
        let samples = (bytes - WaveFile.headerBytes) / WaveFile.sampleBytes
        return DialogueCheckpoint.Turn(
            file: file, duration_ms: WaveFile.milliseconds(ofSamples: samples), sha256: sha256)
    }

    /// Joins and encodes the turns.
    ///
    /// - Returns: the number of samples of each turn.
    private func encode(
        _ spoken: DialogueCheckpoint, as format: DialogueInput.Format, into path: String, work: String
    ) async throws -> [Int] {
        let (joined, encoded) = ("\(work)/joined.pcm", "\(work)/joined.\(format.rawValue)")
        let counts = try await Files.join(
            spoken.turns.map { "\(work)/\($0.file)" },
            silenceSamples: WaveFile.rate * Self.pauseMilliseconds / 1000, into: joined)
        let codec =
            switch format {
            case .mp3: ["-c:a", "libmp3lame", "-b:a", "64k"]
            case .wav: ["-c:a", "pcm_s16le"]
            }
        try await ffmpeg(
            ["-f", "s16le", "-ar", String(WaveFile.rate), "-ac", "1", "-i", joined] + codec
                + ["-f", format.rawValue, encoded])
        try await Files.rename(encoded, to: path)
        return counts
    }

    /// Runs ffmpeg. Metadata are left out, so that the same input gives the same bytes.
    private func ffmpeg(_ arguments: [String]) async throws {
        let common = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-bitexact"]
        let result = try await Tool.run(tools.ffmpeg, common + bitexact(arguments))
        guard let target = arguments.last, try await Files.exists(target) else {
            throw DialogueError.retryable("\(tools.ffmpeg) wrote nothing: \(result.errors)")
        }
    }

    private func bitexact(_ arguments: [String]) -> [String] {
        arguments.dropLast() + ["-bitexact", "-map_metadata", "-1"] + arguments.suffix(1)
    }

    private func output(
        _ input: DialogueInput, path: String, bytes: Int, sha256: String, sampleCounts: [Int]
    ) -> DialogueOutput {
        let pause = WaveFile.rate * Self.pauseMilliseconds / 1000
        var turns: [DialogueOutput.Turn] = []
        var position = 0
        for (turn, count) in zip(input.turns, sampleCounts) {
            if !turns.isEmpty { position += pause }
            turns.append(
                DialogueOutput.Turn(
                    speaker: turn.speaker, start_ms: WaveFile.milliseconds(ofSamples: position),
                    end_ms: WaveFile.milliseconds(ofSamples: position + count)))
            position += count
        }
        return DialogueOutput(
            path: path, bytes: bytes, duration_ms: WaveFile.milliseconds(ofSamples: position), sha256: sha256,
            turns: turns)
    }

    private static func fileName(ofTurn number: Int) -> String {
        let digits = String(number)
        return "turn-" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits + ".wav"
    }
}
