// exact in this file: an address is the operator's.

internal import Glibc

/// The address that a server listens on, or at which a client finds it.
package struct HostPort: Sendable, Hashable, CustomStringConvertible {
    /// A name or an address; IPv6 without brackets.
    package var host: String
    /// The port; 0: any free one.
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Parses `host:port` or `[address]:port`; nil for any other text.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let number = text[text.index(after: colon)...]
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty, host.utf8.count <= 255, !number.hasPrefix("+"), let port = UInt16(number),
            !host.contains(where: { $0.isWhitespace || $0 == "\0" })
        else { return nil }
        self.init(host: String(host), port: Int(port))
    }

    package var description: String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Whether only this machine can reach the address: 127.0.0.0/8 (also as an IPv4-mapped address), ::1, and
    /// the name `localhost`. Other names that a resolver maps to these addresses do not count, and neither do
    /// unusual spellings such as `127.1`.
    package var isLoopback: Bool {
        if host.lowercased() == "localhost" { return true }
        var bytes = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, host, &bytes) == 1 { return bytes[0] == 127 }
        guard inet_pton(AF_INET6, host, &bytes) == 1 else { return false }
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 127]
        return bytes.starts(with: mapped) || bytes == [UInt8](repeating: 0, count: 15) + [1]
    }
}
