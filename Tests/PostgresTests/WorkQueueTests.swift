import Foundation
import Testing

@testable import Postgres

/// Who does what while a statement is being stopped.
@Suite(.timeLimit(.minutes(3))) struct WorkQueueTests {
    private static let timeout: Duration = .seconds(5)

    /// Requests to stop a statement that hang until they are let go.
    private final class Network: Sendable {
        private let gate = DispatchSemaphore(value: 0)
        let begun = DispatchSemaphore(value: 0)

        func request() {
            begun.signal()
            gate.wait()
        }

        func letGo() { gate.signal() }
    }

    private let network = Network()

    /// Whose workers are all connected, and wait.
    private func queue(workers: Int) throws -> WorkQueue {
        let queue = try WorkQueue(workerCount: workers, countMax: 10, interruptionTimeout: Self.timeout)
        for worker in 0..<workers {
            connect(worker, queue)
            #expect(Self.waits(queue.next(for: worker)))
        }
        return queue
    }

    private func connect(_ worker: Int, _ queue: WorkQueue) {
        _ = queue.connected(worker) { [network] in network.request() }
    }

    /// Work that may be interrupted.
    private func add(_ queue: WorkQueue, isLong: Bool = false) -> UInt64 {
        let id = queue.nextID()
        queue.add(
            WorkQueue.Work(
                id: id, deadline: .now + .seconds(60), isBounded: true, isLong: isLong, isInterruptible: true,
                finish: { _ in }))
        return id
    }

    /// The first worker's statement is being stopped, which hangs.
    private func interrupt(_ queue: WorkQueue) {
        let id = add(queue)
        #expect(Self.work(queue.next(for: 0)) == id)
        queue.cancel(id)
        network.begun.wait()
    }

    private static func work(_ next: WorkQueue.Next) -> UInt64? {
        if case .work(let work) = next { work.id } else { nil }
    }

    private static func waits(_ next: WorkQueue.Next) -> Bool {
        if case .wait = next { true } else { false }
    }

    private static func reconnects(_ next: WorkQueue.Next) -> Bool {
        if case .reconnect = next { true } else { false }
    }

    private static func isWoken(
        _ worker: Int, _ queue: WorkQueue, until end: ContinuousClock.Instant = .now
    ) -> Bool {
        let waker = queue.wakers[worker]
        defer { waker.drain() }
        return !Poll.wait((waker.descriptor, Poll.readable), until: end).timedOut
    }

    private static func isWokenInTime(_ worker: Int, _ queue: WorkQueue) -> Bool {
        isWoken(worker, queue, until: .now + .seconds(30))
    }

    @Test func aRequestThatHangsIsGivenUpWithItsConnection() throws {
        let queue = try queue(workers: 1)
        interrupt(queue)
        let now = ContinuousClock.now
        let late = add(queue)
        #expect(Self.waits(queue.next(for: 0, now: now)))
        #expect(Self.reconnects(queue.next(for: 0, now: now + Self.timeout)))
        // Nothing that the new connection does can be stopped by it.
        queue.disconnected(0)
        connect(0, queue)
        #expect(Self.work(queue.next(for: 0)) == late)
        network.letGo()
    }

    /// The request of before ends while the next one is under way: that still holds up its connection.
    @Test func theEndOfOneIsNotTheEndOfTheNext() throws {
        let queue = try queue(workers: 2)
        interrupt(queue)
        queue.disconnected(0)
        let nextNetwork = Network()
        _ = queue.connected(0) { nextNetwork.request() }
        let second = add(queue)
        #expect(Self.work(queue.next(for: 0)) == second)
        while Self.isWoken(0, queue) {}
        queue.cancel(second)
        nextNetwork.begun.wait()
        let third = add(queue)
        network.letGo()
        #expect(Self.isWokenInTime(0, queue))
        #expect(Self.waits(queue.next(for: 0)))
        nextNetwork.letGo()
        #expect(Self.isWokenInTime(0, queue))
        #expect(Self.work(queue.next(for: 0)) == third)
    }

    /// What an interrupted worker cannot take yet is not left to it.
    @Test func longWorkIsHandedToOthersMeanwhile() throws {
        // One of the three may do long work.
        let queue = try queue(workers: 3)
        let first = add(queue, isLong: true)
        #expect(Self.work(queue.next(for: 0)) == first)
        while Self.isWoken(1, queue) || Self.isWoken(2, queue) {}
        let second = add(queue, isLong: true)
        #expect(!Self.isWoken(1, queue) && !Self.isWoken(2, queue))
        queue.cancel(first)
        network.begun.wait()
        #expect(Self.waits(queue.next(for: 0)))
        let woken = try #require([1, 2].first { Self.isWoken($0, queue) })
        #expect(Self.work(queue.next(for: woken)) == second)
        network.letGo()
    }

    /// Where no request gets through, threads do not pile up.
    @Test func noMoreRequestsHangThanThereAreWorkers() throws {
        let queue = try queue(workers: 1)
        interrupt(queue)
        queue.disconnected(0)
        connect(0, queue)
        let second = add(queue)
        #expect(Self.work(queue.next(for: 0)) == second)
        queue.cancel(second)
        // It was not begun, and so holds up nothing.
        let third = add(queue)
        #expect(Self.work(queue.next(for: 0)) == third)
        network.letGo()
    }
}
