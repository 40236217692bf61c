import Logging
import Support

/// One thread of a `Database`: keeps a connection, and does what the queue holds.
struct DatabaseWorker: Sendable {
    let queue: WorkQueue
    let number: Int
    let configuration: Connection.Configuration

    /// Returns at shutdown, when nothing waits any more.
    func run() {
        var backoff = Backoff.connecting
        while queue.wantsConnection() {
            do throws(PostgresError) {
                let connection = try Connection(configuration)
                backoff.reset()
                let cancel = connection.canceller.map { canceller in { @Sendable in canceller.cancel() } }
                if queue.connected(number, cancel) {
                    configuration.logger.notice("the database is back")
                }
                serve(connection)
                connection.close()
                queue.disconnected(number)
            } catch {
                let delay = backoff.next()
                if queue.connectFailed(error) {
                    configuration.logger.warning(
                        "no connection to the database; trying again",
                        metadata: ["error": "\(error)", "retry_in": "\(delay)"])
                }
                wait(until: .now + delay)
            }
        }
        queue.workerLeft()
    }

    /// Returns when the connection broke, or at shutdown.
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
                    "a request to stop a statement hangs; connecting to the database anew")
                return
            case .leave:
                return
            }
        }
        configuration.logger.warning("the connection to the database broke")
    }

    /// Waits out the backoff, which shutdown ends early.
    private func wait(until deadline: ContinuousClock.Instant) {
        let waker = queue.wakers[number]
        waker.drain()
        guard queue.wantsConnection() else { return }
        _ = Poll.wait((waker.descriptor, Poll.readable), until: deadline)
    }
}

extension Backoff {
    /// Between attempts to connect to the database.
    static let connecting = Backoff(initial: .milliseconds(100), most: .seconds(2))
}
