extension Connection {
    /// Connects, runs `body` and closes the connection, on a new thread. It is for code outside a `Database`,
    /// such as a check at start. It takes at most as long as the configuration's timeouts allow; cancelling the
    /// task does not shorten it.
    package static func once<T: Sendable>(
        _ configuration: Configuration,
        _ body: @escaping @Sendable (Connection) throws(PostgresError) -> T
    ) async throws(PostgresError) -> T {
        let result: Result<T, PostgresError> = await withCheckedContinuation { continuation in
            do throws(PostgresError) {
                try OSThread.start {
                    let result: Result<T, PostgresError>
                    do throws(PostgresError) {
                        result = .success(try body(try Connection(configuration)))
                    } catch {
                        result = .failure(error)
                    }
                    continuation.resume(returning: result)
                }
            } catch {
                continuation.resume(returning: .failure(error))
            }
        }
        return try result.get()
    }
}
