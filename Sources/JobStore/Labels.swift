import Foundation

/// Labels as the JSON object that the database keeps.
enum Labels {
    static func json(_ labels: [String: String]) -> String? {
        guard !labels.isEmpty else { return nil }
        // A dictionary of strings is always encodable.
        return (try? JSONEncoder().encode(labels)).map { String(decoding: $0, as: UTF8.self) }
    }

    static func parse(_ json: String?) -> [String: String] {
        guard let json else { return [:] }
        return (try? JSONDecoder().decode([String: String].self, from: Data(json.utf8))) ?? [:]
    }
}
