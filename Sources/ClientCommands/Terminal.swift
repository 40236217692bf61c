import ArgumentParser

import Glibc

/// Standard output and standard error.
///
/// A write blocks while the reader is slow. That is intended: there is nothing else to do, and the connection's
/// event loop has a thread of its own.
enum Terminal {
    enum Output: Int32 {
        case standard = 1
        case error = 2
    }

    static var isInteractive: Bool { isatty(Output.standard.rawValue) == 1 }

    /// The size of the terminal at standard output; 80 × 24 if it is not known.
    static var size: (columns: Int, rows: Int) {
        var size = winsize()
        let known = unsafe ioctl(Output.standard.rawValue, UInt(TIOCGWINSZ), &size) == 0
        return known && size.ws_col > 0 && size.ws_row > 0 ? (Int(size.ws_col), Int(size.ws_row)) : (80, 24)
    }

    /// Writes all of the text. Throws an exit code if the reader has closed the output or the disk is full.
    static func write(_ text: String, to output: Output = .standard) throws {
        try write(Array(text.utf8), to: output)
    }

    static func write(_ bytes: [UInt8], to output: Output = .standard) throws {
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(output.rawValue, buffer.baseAddress! + written, buffer.count - written)
            }
            if count >= 0 {
                written += count
            } else if errno == EAGAIN {
                // The descriptor was made non-blocking by another process: wait until it accepts more.
                var wanted = pollfd(fd: output.rawValue, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&wanted, 1, -1)
            } else if errno != EINTR {
                throw errno == EPIPE ? ExitCode.outputClosed : ExitCode.failure
            }
        }
    }
}
