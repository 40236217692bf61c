/// One SQL statement with `$1`-style parameters. Meant to be a `static let`.
package struct Statement: Sendable, Hashable {
    /// A statement with a name is prepared once per connection; one without is parsed every time.
    package let name: String?
    package let sql: String

    package init(_ name: String? = nil, _ sql: String) {
        self.name = name
        self.sql = sql
    }

    /// The name alone spreads well enough, and is much shorter than the text.
    package func hash(into hasher: inout Hasher) {
        hasher.combine(name ?? sql)
    }
}

/// A statement and the values to run it with.
package struct Query: Sendable {
    package var statement: Statement
    package var parameters: Parameters

    package init(_ statement: Statement, _ parameters: Parameters = Parameters()) {
        self.statement = statement
        self.parameters = parameters
    }
}
