/// A fixed number of connections, each on a thread of its own, and a bounded queue of work for them. SQL code is
/// plain synchronous Swift that runs on such a thread, so nothing blocks the threads of Swift's tasks.
package final class Database: Sendable {
    package struct Configuration: Sendable {
        package var connection: Connection.Configuration
        /// How many connections, and threads.
        package var connectionCount: Int
        /// How much work may wait, and how much long work; more is refused with `.overloaded`.
        package var queueCountMax: Int
        /// How long work may take, waiting included, unless its `run` says otherwise.
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

    /// Starts the threads, which connect at once and, when that fails, again and again. Does not wait for them.
    package init(_ configuration: Configuration) throws(PostgresError) {
        precondition(configuration.connectionCount > 0, "a database needs a connection")
        timeout = configuration.timeout
        let workers = configuration.connectionCount
        // As long as to connect anew may take.
        queue = try WorkQueue(
            workerCount: workers, countMax: configuration.queueCountMax,
            interruptionTimeout: configuration.connection.connectTimeout)
        var started = 0
        do throws(PostgresError) {
            while started < workers {
                let worker = DatabaseWorker(
                    queue: queue, number: started, configuration: configuration.connection)
                try OSThread.start { worker.run() }
                started += 1
            }
            let queue = queue
            try OSThread.start { queue.expireUntilShutdown() }
        } catch {
            // Those that run leave by themselves; those that never started count as gone.
            queue.beginShutdown()
            throw error
        }
    }

    deinit {
        queue.beginShutdown()
    }

    /// Runs `body` on the thread of a connection, and returns what it returns.
    ///
    /// - Parameters:
    ///   - name: Named in errors.
    ///   - timeout: From now to the end of `body`'s last statement. It also bounds how long the work waits for
    ///     a database that is away.
    ///   - isLong: May take seconds. Such work waits in a line of its own, and leaves two connections, if there are
    ///     three or more, to the rest.
    ///   - isInterruptible: cancelling the task stops the statement that runs, which fails. For reads.
    ///
    /// When the connection breaks under `body`, this throws at once and never runs `body` again by itself: the outcome
    /// is unknown. A transaction that `body` leaves open is rolled back. Cancelling the task takes work
    /// out of the queue; work that has started goes on, unless it is interruptible.
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
                        // Before the caller continues, so that nothing it does next can meet this transaction.
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
                // The handler may have run before there was anything to remove.
                if Task.isCancelled { queue.cancel(id) }
            }
        } onCancel: {
            queue.cancel(id)
        }
        return try result.get()
    }

    /// Runs `body` on the thread of a connection, for callers that are no task: nobody waits for it, and it cannot
    /// be taken back. `body` is called exactly once, with the error when it could not start by `deadline`. It is
    /// let into the queue even when that is full: who calls this sees to it that there are few.
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

    /// Refuses new work, finishes what waits and runs (each within its own timeout), closes the connections
    /// and returns when all threads have let go of them.
    package func shutdown() async {
        queue.beginShutdown()
        await queue.waitForWorkers()
    }
}
