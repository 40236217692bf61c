import Postgres

extension Statement {
    /// `column = value`, in words that leave the planner no choice: with an array of one, which can be neither hashed nor
    /// merged, each value is looked up by the column's index.
    ///
    /// With a plain `=` a plan that is made while a table is empty, as `live` is again and again, reads all of it each time:
    /// that is as cheap then. The plan is kept, and so however much has come since.
    static func lookUp(_ column: String, _ value: String) -> String { "\(column) = ANY (ARRAY[\(value)])" }
}
