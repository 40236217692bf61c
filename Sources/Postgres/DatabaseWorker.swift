import Logging
import Support

/// One thread of a `Database`. It keeps a connection and runs the work of the queue.
struct DatabaseWorker: Sendable {
    let queue: WorkQueue
    let number: Int
    let configuration: Connection.Configuration

    /// The body of the thread. It returns at shutdown, when no work waits any more.
    func run() {
        var backoff = Backoff.connecting
        while queue.needsConnection() {
            do throws(PostgresError) {
                let connection = try Connection(configuration)
                backoff.reset()
                let cancel = connection.canceller.map { canceller in { @Sendable in canceller.cancel() } }
                if queue.connected(number, cancel) {
                    configuration.logger.notice("reconnected to the database")
                }
                serve(connection)
                connection.close()
                queue.disconnected(number)
            } catch {
                let delay = backoff.next()
                if queue.connectFailed(error) {
                    configuration.logger.warning(
                        "cannot connect to the database: trying again",
                        metadata: ["error": "\(error)", "retry_in": "\(delay)"])
                }
                wait(until: .now + delay)
            }
        }
        queue.workerLeft()
    }

    /// Runs work on a connection. It returns when the connection breaks, or at shutdown.
    private func serve(_ connection: Connection) {
        let waker = queue.wakers[number]
        while connection.checkAlive() {
            switch queue.next(for: number) {
            case .work(let work):
                if work.deadline <= .now {
                    work.finish(.refused(PostgresError(.timeout, "no connection was free in time")))
                    continue
                }
                connection.deadline = work.deadline
                work.finish(.start(connection))
                connection.deadline = nil
            case .wait(let end):
                connection.waitForInput(orWake: waker, until: end)
            case .reconnect:
                configuration.logger.warning(
                    "a cancel request to the database got no answer: reconnecting")
                return
            case .leave:
                return
            }
        }
        configuration.logger.warning("lost the connection to the database")
    }

    /// Waits for the backoff. Shutdown ends the wait early.
    private func wait(until deadline: ContinuousClock.Instant) {
        let waker = queue.wakers[number]
        waker.drain()
        guard queue.needsConnection() else { return }
        _ = Poll.wait((waker.descriptor, Poll.readable), until: deadline)
    }
}

extension Backoff {
    /// The backoff between attempts to connect to the database.
    static let connecting = Backoff(initial: .milliseconds(100), most: .seconds(2))
}
