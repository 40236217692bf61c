import Foundation
import NIOPosix
import Synchronization
import Testing

@testable import Signalbox

@Suite(.timeLimit(.minutes(1))) struct FileReloadTests {
    @Test func aReadThatHangsHoldsUpNothing() async {
        let (starts, started) = AsyncStream.makeStream(of: Void.self)
        let count = Mutex(0)
        let hang = DispatchSemaphore(value: 0)
        let reload = FileReload {
            count.withLock { $0 += 1 }
            started.yield()
            hang.wait()
        }
        var iterator = starts.makeAsyncIterator()
        reload.start()
        await iterator.next()
        // These return although the first read has not.
        for _ in 0..<10 { reload.start() }
        #expect(count.withLock(\.self) == 1)
        hang.signal()
        // Once it has returned, the next one starts.
        var isRunning = false
        while !isRunning {
            reload.start()
            await Task.yield()
            isRunning = count.withLock(\.self) == 2
        }
        hang.signal()
    }
}
