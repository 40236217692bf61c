/// A fixed number of connections, each on a thread of its own, and a bounded queue of work for them. SQL code is
/// plain synchronous Swift that runs on such a thread, so nothing blocks the threads of Swift's tasks.
package final class Database: Sendable {
    package struct Configuration: Sendable {
        package var connection: Connection.Configuration
        /// The number of connections, and of their threads.
        package var connectionCount: Int
        /// The most work that may wait, and the most long work. More is refused with `.overloaded`.
        package var queueCountMax: Int
        /// The time that work may take, including its wait, unless `run` is given another one.
        package var timeout: Duration

        package init(
            connection: Connection.Configuration, connectionCount: Int = 4, queueCountMax: Int = 1024,
            timeout: Duration = .seconds(10)
        ) {
            self.connection = connection
            self.connectionCount = connectionCount
            self.queueCountMax = queueCountMax
            self.timeout = timeout
        }
    }

    private let queue: WorkQueue
    private let timeout: Duration

    /// Starts the threads. They connect at once and retry until they succeed; this does not wait for them.
    package init(_ configuration: Configuration) throws(PostgresError) {
        precondition(configuration.connectionCount > 0, "a database needs a connection")
        timeout = configuration.timeout
        let workers = configuration.connectionCount
        // The time that a new connection may take is the limit for an interruption too.
        queue = try WorkQueue(
            workerCount: workers, countMax: configuration.queueCountMax,
            interruptionTimeout: configuration.connection.connectTimeout)
        var started = 0
        do throws(PostgresError) {
            while started < workers {
                let worker = DatabaseWorker(
                    queue: queue, number: started, configuration: configuration.connection)
                try startThread { worker.run() }
                started += 1
            }
            let queue = queue
            try startThread { queue.expireUntilShutdown() }
        } catch {
            // Threads that run end by themselves; those that were not started count as ended.
            queue.beginShutdown()
            throw error
        }
    }

    deinit {
        queue.beginShutdown()
    }

    /// Runs `body` on the thread of a connection, and returns its result.
    ///
    /// - Parameters:
    ///   - name: The name of the operation in errors.
    ///   - timeout: The time from now to the end of `body`'s last statement. It also bounds how long the work
    ///     waits for a database that is away.
    ///   - isLong: Whether the work may take seconds. Long work waits in a queue of its own, and leaves two
    ///     connections, if there are three or more, to the rest.
    ///   - isInterruptible: Whether cancelling the task stops the statement in flight, which then fails. Only for
    ///     reads.
    ///
    /// When the connection breaks under `body`, this throws at once and never runs `body` again by itself: the
    /// outcome is unknown. A transaction that `body` leaves open is rolled back. Cancelling the task removes work
    /// from the queue; work that has started goes on, unless it is interruptible.
    package func run<T: Sendable>(
        _ name: StaticString, timeout: Duration? = nil, isLong: Bool = false, isInterruptible: Bool = false,
        _ body: @Sendable @escaping (Connection) throws(PostgresError) -> T
    ) async throws(PostgresError) -> T {
        let id = queue.nextID()
        let deadline = ContinuousClock.now + (timeout ?? self.timeout)
        let result: Result<T, PostgresError> = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let work = WorkQueue.Work(
                    id: id, deadline: deadline, isBounded: true, isLong: isLong,
                    isInterruptible: isInterruptible
                ) { outcome in
                    let result: Result<T, PostgresError>
                    switch outcome {
                    case .refused(let error):
                        result = .failure(error)
                    case .start(let connection):
                        do throws(PostgresError) {
                            result = .success(try body(connection))
                        } catch {
                            result = .failure(error)
                        }
                        // The rollback comes before the caller continues, so that its next work cannot run in
                        // this transaction.
                        connection.rollBack()
                    }
                    continuation.resume(
                        returning: result.mapError {
                            var error = $0
                            error.operation = "\(name)"
                            return error
                        })
                }
                queue.add(work)
                // The cancellation handler may have run before the work was in the queue.
                if Task.isCancelled { queue.cancel(id) }
            }
        } onCancel: {
            queue.cancel(id)
        }
        return try result.get()
    }

    /// Runs `body` on the thread of a connection, for callers that are not tasks. The work cannot be cancelled.
    /// `body` is called exactly once, with an error if it could not start by `deadline`. It is added to the queue
    /// even when that is full, so its callers must bound how often they call it.
    package func perform(
        deadline: ContinuousClock.Instant,
        _ body: @Sendable @escaping (Result<Connection, PostgresError>) -> Void
    ) {
        queue.add(
            WorkQueue.Work(id: queue.nextID(), deadline: deadline, isBounded: false, isLong: false) {
                outcome in
                switch outcome {
                case .refused(let error):
                    body(.failure(error))
                case .start(let connection):
                    body(.success(connection))
                    connection.rollBack()
                }
            })
    }

    /// Refuses new work, finishes the work that waits or runs (each within its own timeout), closes the
    /// connections and returns when all threads have released them.
    package func shutdown() async {
        queue.beginShutdown()
        await queue.waitForWorkers()
    }
}
