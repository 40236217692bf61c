/// One SQL statement with `$1`-style parameters. It should be a `static let`.
package struct Statement: Sendable, Hashable {
    /// The name under which the statement is prepared once per connection; nil: it is parsed every time.
    package let name: String?
    package let sql: String

    package init(_ name: String? = nil, _ sql: String) {
        self.name = name
        self.sql = sql
    }

    /// Hashes only the name, which differs enough between statements and is much shorter than the text.
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
