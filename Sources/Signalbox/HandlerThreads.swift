import Foundation
import Threads

/// The threads that run handlers, whose code may block: twice as many as there are cores, and at least 4.
enum HandlerThreads {
    /// The threads are started at first use and last as long as the process. A failure lasts as long.
    static let executor = Result { () throws(OSThreadError) in
        try ThreadExecutor(threadCount: max(4, 2 * ProcessInfo.processInfo.activeProcessorCount))
    }
}
