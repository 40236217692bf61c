/// The text to speak and its voices: the input of `speech.dialogue`.
package struct DialogueInput: Codable, Sendable, Hashable {
    package struct Turn: Codable, Sendable, Hashable {
        package var speaker: String
        /// The text in UTF-8, at most 10,000 bytes and not only spaces.
        package var text: String

        package init(speaker: String, text: String) {
            self.speaker = speaker
            self.text = text
        }
    }

    package enum Format: String, Codable, Sendable, Hashable {
        case mp3, wav
    }

    /// The turns, 1 to 1,000, in the order of speech.
    package var turns: [Turn]
    /// The voice of each speaker: `provider:voice`, as in `flite:slt`, or the name of a voice of `provider`.
    package var voices: [String: String]
    package var format: Format
    /// The provider of voices that do not name theirs; nil: `espeak-ng`.
    package var provider: String?

    package init(turns: [Turn], voices: [String: String], format: Format, provider: String? = nil) {
        self.turns = turns
        self.voices = voices
        self.format = format
        self.provider = provider
    }
}

/// The file with the speech: the result of `speech.dialogue`.
package struct DialogueOutput: Codable, Sendable, Hashable {
    /// The time of a turn, in milliseconds from the start of the file.
    package struct Turn: Codable, Sendable, Hashable {
        package var speaker: String
        package var start_ms: Int
        package var end_ms: Int
    }

    /// The path `<storage>/<provider>/<uuid>.<format>`. The provider is `mixed` if there are several.
    package var path: String
    package var bytes: Int
    /// The duration of the speech, counted in samples. A decoder may add some tens of milliseconds.
    package var duration_ms: Int
    /// The SHA-256 of the file, as 64 hexadecimal digits.
    package var sha256: String
    package var turns: [Turn]
}

/// The turns that have been spoken, from the first one on. It takes at most about 120 bytes of JSON per turn.
package struct DialogueCheckpoint: Codable, Sendable, Hashable {
    package struct Turn: Codable, Sendable, Hashable {
        /// The file's name in the work folder.
        package var file: String
        package var duration_ms: Int
        package var sha256: String
    }

    package var turns: [Turn]
}

/// The progress of a dialogue.
package struct DialogueProgress: Sendable, Hashable {
    package var stage: String
    package var message: String
    /// The number of steps done. Each turn is one step, and the encoding is the last.
    package var step: Int
    /// The number of all steps.
    package var steps: Int
}

/// The reason why no speech was made.
package struct DialogueError: Error, Sendable, Hashable, CustomStringConvertible {
    package var message: String
    /// Whether another attempt would fail in the same way.
    package var isPermanent: Bool

    package var description: String { message }

    static func permanent(_ message: String) -> DialogueError {
        DialogueError(message: message, isPermanent: true)
    }

    static func retryable(_ message: String) -> DialogueError {
        DialogueError(message: message, isPermanent: false)
    }
}

extension DialogueInput {
    static let turnsMax = 1000
    static let textBytesMax = 10_000
    static let nameBytesMax = 128

    /// The voice of each turn. Throws a permanent error for input that no attempt can speak. The providers are
    /// not asked for their voices yet.
    func turnVoices() throws(DialogueError) -> [Voice] {
        guard (1...Self.turnsMax).contains(turns.count) else {
            throw .permanent("turns: there are \(turns.count), and there must be 1 to \(Self.turnsMax)")
        }
        var known: [String: Voice] = [:]
        var voices: [Voice] = []
        for (index, turn) in turns.enumerated() {
            guard (1...Self.textBytesMax).contains(turn.text.utf8.count), !turn.text.utf8.contains(0),
                !turn.text.allSatisfy(\.isWhitespace)
            else {
                throw .permanent(
                    "turns[\(index)].text: must be 1 to \(Self.textBytesMax) bytes that are not only "
                        + "spaces, without NUL")
            }
            guard (1...Self.nameBytesMax).contains(turn.speaker.utf8.count) else {
                throw .permanent("turns[\(index)].speaker: must be 1 to \(Self.nameBytesMax) bytes")
            }
            if let voice = known[turn.speaker] {
                voices.append(voice)
                continue
            }
            guard let name = self.voices[turn.speaker] else {
                throw .permanent("voices: there is none for the speaker '\(turn.speaker)'")
            }
            let voice = try voice(named: name, of: turn.speaker)
            known[turn.speaker] = voice
            voices.append(voice)
        }
        return voices
    }

    private func voice(named name: String, of speaker: String) throws(DialogueError) -> Voice {
        // The length is checked before any comparison, because comparing takes time that grows with the square of
        // a text's combining marks.
        guard name.utf8.count <= 2 * Self.nameBytesMax, (provider?.utf8.count ?? 0) <= Self.nameBytesMax
        else {
            throw .permanent("the voice of '\(speaker)': must be 1 to \(Self.nameBytesMax) bytes")
        }
        let names = SpeechProvider.allCases.map(\.rawValue).joined(separator: ", ")
        let parts = name.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let providerName = parts.count == 2 ? String(parts[0]) : provider ?? SpeechProvider.espeakNG.rawValue
        guard let provider = SpeechProvider(rawValue: providerName) else {
            throw .permanent(
                "the voice of '\(speaker)': there is no provider '\(providerName.prefix(40))'; "
                    + "there are \(names)")
        }
        guard let voice = parts.last, (1...Self.nameBytesMax).contains(voice.utf8.count) else {
            throw .permanent("the voice of '\(speaker)': must be 1 to \(Self.nameBytesMax) bytes")
        }
        return Voice(provider: provider, name: String(voice))
    }
}
