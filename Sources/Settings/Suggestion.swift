/// The nearest known name, for one that is unknown.
enum Suggestion {
    /// A text such as ` (did you mean 'grace'?)`; empty if no name is near.
    static func text(for name: String, among known: some Sequence<String>) -> String {
        let nearest = known.map { ($0, distance(name, $0)) }.min { ($0.1, $0.0) < ($1.1, $1.0) }
        guard let (word, distance) = nearest, distance <= max(1, name.count / 3) else { return "" }
        return " (did you mean '\(word)'?)"
    }

    /// The number of letters to insert, delete or replace (Levenshtein distance).
    private static func distance(_ left: String, _ right: String) -> Int {
        let left = Array(left.prefix(64))
        let right = Array(right)
        var row = Array(0...right.count)
        for (i, letter) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in right.enumerated() {
                let changed = diagonal + (letter == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(changed, row[j] + 1, diagonal + 1)
            }
        }
        return row[right.count]
    }
}
