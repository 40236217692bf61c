/// A program that turns text into speech.
package enum SpeechProvider: String, Sendable, Hashable, CaseIterable {
    case espeakNG = "espeak-ng"
    case flite
}

struct Voice: Sendable, Hashable {
    var provider: SpeechProvider
    var name: String
}

/// The voices that a provider has.
struct VoiceList: Sendable {
    var names: [String]
    /// The variants of voices of espeak-ng: a voice may be followed by `+` and one of them.
    var variants: Set<String> = []

    func has(_ voice: String) -> Bool {
        let parts = voice.split(separator: "+", maxSplits: 1, omittingEmptySubsequences: false)
        guard names.contains(String(parts[0])) else { return false }
        return parts.count == 1 || variants.contains(String(parts[1]))
    }
}

/// The programs that are run. A name is looked up in PATH.
package struct DialogueTools: Sendable {
    package var espeakNG: String
    package var flite: String
    package var ffmpeg: String

    package init(espeakNG: String = "espeak-ng", flite: String = "flite", ffmpeg: String = "ffmpeg") {
        self.espeakNG = espeakNG
        self.flite = flite
        self.ffmpeg = ffmpeg
    }

    func voices(of provider: SpeechProvider) async throws -> VoiceList {
        switch provider {
        case .espeakNG:
            // The output is a table: priority, language, age and gender, name, file, and other languages that the
            // voice speaks, as in `(en 2)(fr 5)`. A language can be used as the name of a voice.
            let languages = try await Tool.run(espeakNG, ["--voices"]).output
            // The file of a variant is `!v/NAME`.
            let variants = try await Tool.run(espeakNG, ["--voices=variant"]).output
            return VoiceList(
                names: Set(Self.column(1, of: languages) + Self.otherLanguages(of: languages)).sorted(),
                variants: Set(
                    Self.column(4, of: variants).compactMap {
                        $0.hasPrefix("!v/") ? String($0.dropFirst(3)) : nil
                    }))
        case .flite:
            // The output is one line: "Voices available: kal awb …".
            let output = try await Tool.run(flite, ["-lv"]).output
            let list = output.split(separator: ":", maxSplits: 1).last ?? ""
            return VoiceList(names: list.split(whereSeparator: \.isWhitespace).map(String.init))
        }
    }

    /// Speaks the file `text` into the WAV file `wave`, with the voice's own sample rate. The voice must be in
    /// the provider's list, because its name is passed to the program.
    func speak(text: String, with voice: Voice, into wave: String) async throws {
        let result =
            switch voice.provider {
            case .espeakNG:
                try await Tool.run(espeakNG, ["-v", voice.name, "-b", "1", "-f", text, "-w", wave])
            case .flite:
                try await Tool.run(flite, ["-voice", voice.name, "-f", text, "-o", wave])
            }
        // Both programs exit with 0 even if they could not write the file.
        guard try await Files.exists(wave) else {
            throw DialogueError.retryable("\(voice.provider.rawValue) wrote no speech: \(result.errors)")
        }
    }

    private static func otherLanguages(of table: String) -> [String] {
        table.matches(of: /\(([^ ()]+) [0-9]+\)/).map { String($0.output.1) }
    }

    private static func column(_ index: Int, of table: String) -> [String] {
        table.split(separator: "\n").dropFirst().compactMap { line in
            let columns = line.split(separator: " ", omittingEmptySubsequences: true)
            return columns.count > index ? String(columns[index]) : nil
        }
    }
}
