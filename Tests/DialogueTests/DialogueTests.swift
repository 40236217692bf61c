import Dialogue
import Foundation
import Subprocess
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2))) struct DialogueTests {
    private let id = UUID()

    private func withStorage<T>(_ body: (String) async throws -> T) async throws -> T {
        let path = FileManager.default.temporaryDirectory.path + "/dialogue-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try await body(path)
    }

    private func input(
        _ voices: [String: String], format: DialogueInput.Format = .wav, provider: String? = nil
    ) -> DialogueInput {
        DialogueInput(
            turns: [
                DialogueInput.Turn(speaker: "ann", text: "Is it there? -x <b>"),
                DialogueInput.Turn(speaker: "bob", text: "Ça va: it is."),
            ], voices: voices, format: format, provider: provider)
    }

    private func speak(_ dialogue: Dialogue, _ input: DialogueInput) async throws -> DialogueOutput {
        try await dialogue.speak(input, id: id, report: { _ in }, save: { _ in })
    }

    private func error(of input: DialogueInput, tools: DialogueTools = DialogueTools()) async throws
        -> DialogueError
    {
        try await withStorage { storage in
            try await #require(throws: DialogueError.self) {
                try await speak(Dialogue(storage: storage, tools: tools), input)
            }
        }
    }

    /// What ffprobe says: codec, and seconds.
    private func probe(_ path: String) async throws -> (codec: String, seconds: Double) {
        let result = try await Subprocess.run(
            .name("ffprobe"),
            arguments: [
                "-v", "error", "-show_entries", "stream=codec_name:format=duration", "-of",
                "default=noprint_wrappers=1:nokey=1", path,
            ], output: .string(limit: 4096))
        let lines = result.standardOutput.split(separator: "\n")
        try #require(lines.count == 2)
        return (String(lines[0]), try #require(Double(lines[1])))
    }

    // MARK: Speech

    @Test(arguments: [
        ("espeak-ng", ["ann": "en-gb", "bob": "espeak-ng:fr+f3"], nil, DialogueInput.Format.mp3),
        ("flite", ["ann": "slt", "bob": "kal"], "flite", .wav),
        ("mixed", ["ann": "espeak-ng:en-us", "bob": "flite:rms"], nil, .mp3),
    ])
    func speaksWithItsProviders(
        _ folder: String, _ voices: [String: String], _ provider: String?, _ format: DialogueInput.Format
    ) async throws {
        try await withStorage { storage in
            let output = try await speak(
                Dialogue(storage: storage), input(voices, format: format, provider: provider))
            #expect(output.path == "\(storage)/\(folder)/\(id.uuidString.lowercased()).\(format.rawValue)")
            let (codec, seconds) = try await probe(output.path)
            #expect(codec == (format == .mp3 ? "mp3" : "pcm_s16le"))
            #expect(abs(seconds * 1000 - Double(output.duration_ms)) < (format == .mp3 ? 100 : 2))
            #expect(try Data(contentsOf: URL(filePath: output.path)).count == output.bytes)
            #expect(output.sha256.count == 64)

            #expect(output.turns.map(\.speaker) == ["ann", "bob"])
            #expect(output.turns[0].start_ms == 0 && output.turns[0].end_ms > 200)
            #expect(abs(output.turns[1].start_ms - output.turns[0].end_ms - 200) <= 1)
            #expect(output.turns[1].end_ms == output.duration_ms)
            #expect(!FileManager.default.fileExists(atPath: "\(storage)/\(folder)/.work/\(id)".lowercased()))
        }
    }

    @Test func tellsItsProgressAndSavesEachTurn() async throws {
        try await withStorage { storage in
            let said = Mutex<[DialogueProgress]>([])
            let saved = Mutex<[Int]>([])
            let output = try await Dialogue(storage: storage).speak(
                input(["ann": "en", "bob": "en-us"]), id: id,
                report: { progress in said.withLock { $0.append(progress) } },
                save: { checkpoint in saved.withLock { $0.append(checkpoint.turns.count) } })
            #expect(saved.withLock { $0 } == [1, 2])
            let reports = said.withLock { $0 }
            let words = reports.map { "\($0.stage) \($0.message) \($0.step)/\($0.steps)" }
            let done = "done \(output.path) 3/3"
            #expect(words == ["speaking ann 0/3", "speaking bob 1/3", "encoding wav 2/3", done])
        }
    }

    // MARK: Resuming

    /// espeak-ng, noting in a file each turn that it speaks.
    private func notingTools(in storage: String) throws -> (tools: DialogueTools, spoken: () -> Int) {
        let notes = "\(storage)/notes"
        let tool = try script("case $1 in -v) echo . >> \(notes);; esac; exec espeak-ng \"$@\"", in: storage)
        return (
            DialogueTools(espeakNG: tool),
            { (try? String(contentsOfFile: notes, encoding: .utf8).utf8.count / 2) ?? 0 }
        )
    }

    private func script(_ text: String, in storage: String) throws -> String {
        let path = "\(storage)/tool-\(UUID().uuidString)"
        try Data("#!/bin/sh\n\(text)\n".utf8).write(to: URL(filePath: path))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        return path
    }

    private struct Stop: Error {}

    @Test(arguments: [1, 2], [false, true])
    func doesNotSpeakAgainWhatIsDone(stopAfter: Int, isDamaged: Bool) async throws {
        try await withStorage { storage in
            let input = input(["ann": "en", "bob": "en-us"])
            let (tools, spoken) = try notingTools(in: storage)
            let dialogue = Dialogue(storage: storage, tools: tools)
            let saved = Mutex<DialogueCheckpoint?>(nil)
            await #expect(throws: Stop.self) {
                try await dialogue.speak(
                    input, id: id, report: { _ in },
                    save: { checkpoint in
                        saved.withLock { $0 = checkpoint }
                        if checkpoint.turns.count == stopAfter { throw Stop() }
                    })
            }
            #expect(spoken() == stopAfter)
            if isDamaged {
                let file = "\(storage)/espeak-ng/.work/\(id.uuidString.lowercased())/turn-0001.wav"
                try Data("damaged".utf8).write(to: URL(filePath: file))
            }
            let checkpoint = try JSONDecoder().decode(
                DialogueCheckpoint.self, from: JSONEncoder().encode(saved.withLock { $0 }))
            let output = try await dialogue.speak(
                input, id: id, checkpoint: checkpoint, report: { _ in }, save: { _ in })
            #expect(spoken() == (isDamaged ? stopAfter + 2 : 2))

            // As if it had been spoken in one go.
            let whole = try await Dialogue(storage: storage).speak(
                input, id: UUID(), report: { _ in }, save: { _ in })
            #expect(whole.sha256 == output.sha256 && whole.turns == output.turns)
        }
    }

    // MARK: Work folders

    private func work(in storage: String, of id: UUID) -> String {
        "\(storage)/espeak-ng/.work/\(id.uuidString.lowercased())"
    }

    @Test func aPermanentFailureLeavesNoWork() async throws {
        try await withStorage { storage in
            let dialogue = Dialogue(storage: storage)
            await #expect(throws: Stop.self) {
                try await dialogue.speak(
                    input(["ann": "en", "bob": "en"]), id: id, report: { _ in }, save: { _ in throw Stop() })
            }
            #expect(FileManager.default.fileExists(atPath: work(in: storage, of: id)))
            // As if the voice had been removed before the next attempt.
            await #expect(throws: DialogueError.self) {
                try await speak(dialogue, input(["ann": "en", "bob": "xx-none"]))
            }
            #expect(!FileManager.default.fileExists(atPath: work(in: storage, of: id)))
        }
    }

    @Test func oldWorkIsSwept() async throws {
        try await withStorage { storage in
            let (old, fresh) = (work(in: storage, of: UUID()), work(in: storage, of: UUID()))
            for folder in [old, fresh] {
                try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                try Data("x".utf8).write(to: URL(filePath: folder + "/turn-0001.wav"))
            }
            let eightDaysAgo = Date(timeIntervalSinceNow: -8 * 86_400)
            try FileManager.default.setAttributes([.modificationDate: eightDaysAgo], ofItemAtPath: old)
            try await Dialogue(storage: storage).sweep()
            #expect(!FileManager.default.fileExists(atPath: old))
            #expect(FileManager.default.fileExists(atPath: fresh))
        }
    }

    // MARK: Failures

    @Test(arguments: [
        (["ann": "en-gb", "bob": "xx-none"], "espeak-ng has no voice 'xx-none'; it has af, "),
        (["ann": "flite:slt", "bob": "flite:../../etc"], "flite has no voice '../../etc'; it has kal, "),
        (["ann": "en-gb+none", "bob": "en-gb"], "espeak-ng has no voice 'en-gb+none'; it has af, "),
    ])
    func anUnknownVoiceFailsForGoodWithTheList(_ voices: [String: String], _ words: String) async throws {
        let failure = try await error(of: input(voices))
        #expect(failure.isPermanent)
        #expect(failure.message.contains(words))
        #expect(failure.message.utf8.count < 4096)
    }

    @Test func badInputFailsForGood() async throws {
        let voices = ["a": "en"]
        func turns(_ texts: [String], speaker: String = "a") -> DialogueInput {
            DialogueInput(
                turns: texts.map { DialogueInput.Turn(speaker: speaker, text: $0) }, voices: voices,
                format: .mp3)
        }
        var strange = turns(["x"])
        strange.provider = "festival"
        var prefixed = turns(["x"])
        prefixed.voices = ["a": "nobody:en"]
        let cases: [(DialogueInput, String)] = [
            (turns([]), "turns: there are 0"),
            (turns(Array(repeating: "x", count: 1001)), "turns: there are 1001"),
            (turns(["x", " \n"]), "turns[1].text"),
            (turns([String(repeating: "x", count: 10_001)]), "turns[0].text"),
            (turns(["a\0b"]), "turns[0].text"),
            (turns(["x"], speaker: ""), "turns[0].speaker"),
            (turns(["x"], speaker: "b"), "voices: there is none for the speaker 'b'"),
            (strange, "there is no provider 'festival'; there are espeak-ng, flite"),
            (prefixed, "there is no provider 'nobody'"),
        ]
        for (input, words) in cases {
            let failure = try await error(of: input)
            #expect(failure.isPermanent && failure.message.contains(words))
        }
    }

    @Test func aFailingProviderMayBeTriedAgain() async throws {
        try await withStorage { storage in
            let say = "case $1 in -v) echo no memory >&2; exit 3;; esac; exec espeak-ng \"$@\""
            let tools = DialogueTools(espeakNG: try script(say, in: storage))
            let failure = try await error(of: input(["ann": "en", "bob": "en"]), tools: tools)
            #expect(!failure.isPermanent && failure.message.contains("no memory"))
        }
        let missing = DialogueTools(espeakNG: "no-such-program-anywhere")
        let failure = try await error(of: input(["ann": "en", "bob": "en"]), tools: missing)
        #expect(!failure.isPermanent && failure.message.contains("no-such-program-anywhere"))
    }

    @Test func cancellationEndsTheProvider() async throws {
        try await withStorage { storage in
            // A named pipe whose only writer is the provider: its reader ends when that is dead.
            let pipe = storage + "/pipe"
            try #require(mkfifo(pipe, 0o600) == 0)
            let say =
                "case $1 in -v) exec 9>\(pipe); echo up >&9; exec sleep 600;; esac; exec espeak-ng \"$@\""
            let dialogue = Dialogue(
                storage: storage, tools: DialogueTools(espeakNG: try script(say, in: storage)))
            let task = Task { [id, input = input(["ann": "en", "bob": "en"])] in
                try await dialogue.speak(input, id: id, report: { _ in }, save: { _ in })
            }
            _ = try await Subprocess.run(
                .name("cat"), arguments: [pipe], input: .none, output: .sequence, error: .discarded
            ) { reader in
                var said = reader.standardOutput.makeAsyncIterator()
                let isUp = try await said.next() != nil
                task.cancel()
                await #expect(throws: CancellationError.self) { try await task.value }
                let isOver = try await said.next() == nil
                #expect(isUp && isOver)
            }
        }
    }

    @Test func readsItsInputAsJSON() throws {
        let json = #"{"turns":[{"speaker":"a","text":"t"}],"voices":{"a":"en"},"format":"mp3"}"#
        let input = try JSONDecoder().decode(DialogueInput.self, from: Data(json.utf8))
        #expect(
            input
                == DialogueInput(
                    turns: [DialogueInput.Turn(speaker: "a", text: "t")], voices: ["a": "en"], format: .mp3))
    }
}
