package import JobModel
import Crypto
import Postgres

/// Adds a secret, unless there is one of that name.
struct AddSecret: Command {
    let name: String
    let value: [UInt8]

    static let statement = ParameterizedStatement<Self>(
        "add_secret",
        "INSERT INTO secret (name, value) VALUES (\(\.name), \(\.value)) ON CONFLICT (name) DO NOTHING")
}

struct GetSecret: Command {
    let name: String

    static let statement = ParameterizedStatement<Self>(
        "get_secret", "SELECT value FROM secret WHERE name = \(\.name)")
}

extension JobStore {
    /// A secret of 32 random bytes that all nodes of this database share. The first node that needs it makes it.
    package func secret(_ name: StaticString) async throws(StoreError) -> [UInt8] {
        let fresh = SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
        return try await run("secret") { connection throws(PostgresError) in
            // There are two statements, because the first one waits for a node that is just adding the secret,
            // and the second one then sees it.
            let results = try connection.transaction([
                Query(AddSecret(name: name.description, value: fresh)),
                Query(GetSecret(name: name.description)),
            ])
            return try results[1].onlyRow[results[1].column("value")]
        }
    }
}
