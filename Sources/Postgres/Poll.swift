import Glibc

/// Wraps poll(2). It is the only code that deals with EINTR and with milliseconds.
enum Poll {
    static let readable = Int16(POLLIN)
    static let writable = Int16(POLLOUT)

    struct Ready {
        /// The events of each descriptor. An error or a hang-up counts as both readable and writable.
        var first: Int16 = 0
        var second: Int16 = 0
        var timedOut: Bool { first == 0 && second == 0 }
    }

    /// Waits until there is an event or `deadline` passes; nil: no deadline. A negative descriptor is ignored.
    static func wait(
        _ first: (descriptor: Int32, events: Int16), _ second: (descriptor: Int32, events: Int16) = (-1, 0),
        until deadline: ContinuousClock.Instant?
    ) -> Ready {
        while true {
            var milliseconds: Int32 = -1
            if let deadline {
                let (seconds, attoseconds) = (deadline - .now).components
                // Rounded up, so that the deadline has passed when poll says so.
                let left = seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
                milliseconds = Int32(clamping: max(0, left))
            }
            var ready = Ready()
            let count = unsafe withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 2) { list in
                unsafe list.initializeElement(
                    at: 0, to: pollfd(fd: first.descriptor, events: first.events, revents: 0))
                unsafe list.initializeElement(
                    at: 1, to: pollfd(fd: second.descriptor, events: second.events, revents: 0))
                let count = unsafe poll(list.baseAddress, 2, milliseconds)
                unsafe ready.first = meaning(list[0].revents)
                unsafe ready.second = meaning(list[1].revents)
                return count
            }
            if count > 0 { return ready }
            if count == 0 { return Ready() }
            // EINTR, or ENOMEM and EAGAIN, which are temporary: try again unless the deadline has passed.
            if let deadline, deadline <= .now { return Ready() }
        }
    }

    private static func meaning(_ events: Int16) -> Int16 {
        events & Int16(POLLERR | POLLHUP | POLLNVAL) != 0 ? events | readable | writable : events
    }
}
