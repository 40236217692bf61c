import Threads

extension Connection {
    /// Connects, runs `body` and closes the connection, on a new thread. It is for code outside a `Database`,
    /// such as a check at start. It takes at most as long as the configuration's timeouts allow; cancelling the
    /// task does not shorten it.
    package static func once<T: Sendable>(
        _ configuration: Configuration,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(PostgresError) -> T {
        let result: Result<T, PostgresError>
        do throws(OSThreadError) {
            result = try await OSThread.run {
                Result { () throws(PostgresError) in try body(try Connection(configuration)) }
            }
        } catch {
            throw PostgresError(error)
        }
        return try result.get()
    }
}
