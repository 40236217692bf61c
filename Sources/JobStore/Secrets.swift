package import JobModel
import Crypto
import Postgres

extension Statement {
    static let addSecret = Statement(
        "add_secret", "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")

    static let getSecret = Statement("get_secret", "SELECT value FROM secret WHERE name = $1")
}

extension JobStore {
    /// 32 random bytes that all nodes of this database have for a purpose, made by the one that asks first.
    package func secret(_ name: StaticString) async throws(StoreError) -> [UInt8] {
        let fresh = SymmetricKey(size: .bits256).withUnsafeBytes { Array($0) }
        return try await run("secret") { connection throws(PostgresError) in
            // Two statements: where another node is just adding one, the first waits for it, and the second sees it.
            try connection.transaction([
                Query(
                    .addSecret,
                    Parameters {
                        $0.append(name.description)
                        $0.append(bytes: fresh)
                    }),
                Query(.getSecret, Parameters { $0.append(name.description) }),
            ])[1].onlyRow.bytes(0)
        }
    }
}
