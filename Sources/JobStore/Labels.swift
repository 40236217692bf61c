import Foundation
import Support

/// Converts labels to and from the JSON object that the database keeps.
///
/// Each text is encoded by itself, because Foundation would put the keys into a dictionary, in which two spellings of é are
/// one key.
enum Labels {
    static func json(_ labels: [ExactText: ExactText]) -> String? {
        guard !labels.isEmpty else { return nil }
        let members = labels.map { "\(quoted($0)):\(quoted($1))" }
        return "{\(members.joined(separator: ","))}"
    }

    /// Nil if the JSON is not an object whose values are texts.
    static func parse(_ json: String) -> [ExactText: ExactText]? {
        guard let object = JSONObject(Array(json.utf8)[...]) else { return nil }
        var labels: [ExactText: ExactText] = [:]
        for member in object.members {
            guard let key = text(member.quotedKey), let value = text(member.value) else { return nil }
            labels[key] = value
        }
        return labels
    }

    private static func quoted(_ text: ExactText) -> String {
        // A text is always encodable.
        (try? JSONEncoder().encode(text.text)).map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
    }

    private static func text(_ quoted: ArraySlice<UInt8>) -> ExactText? {
        (try? JSONDecoder().decode(String.self, from: Data(quoted))).map { ExactText($0) }
    }
}
