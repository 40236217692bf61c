import JobModel
import Postgres
import Support

extension Statement {
    /// That a row is of a user for whom the caller may act: `parameter` names them; null: all.
    static func isAllowed(_ column: String, _ parameter: String) -> String {
        "(\(parameter)::text[] IS NULL OR \(column) = ANY (\(parameter)))"
    }
}

extension Parameters {
    /// The parameter of `isAllowed`.
    mutating func append(_ users: UserScope) {
        switch users {
        case .all: appendNull(arrayOf: .text)
        // There is no text with a NUL in Postgres, and so no such user.
        case .only(let users): append(users.map(\.text).filter { !$0.utf8.contains(0) })
        }
    }
}
