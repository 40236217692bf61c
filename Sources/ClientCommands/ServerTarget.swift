import ArgumentParser
import FoundationEssentials

/// Which server is called, and how: from the options, then the environment, then the defaults.
struct ServerTarget: Sendable, Equatable {
    static let defaultServer = "127.0.0.1:7600"
    static let defaultTimeout = Duration.seconds(10)

    var host: String
    var port: Int
    var usesTLS = false
    /// PEM file of the certificates to trust; nil: the system's.
    var tlsRootsPath: String?
    /// For connecting, and for each call but a watch.
    var timeout: Duration

    /// Throws a `ValidationError` that names the option or the variable.
    static func resolve(
        server: String?, tls: Bool, tlsCA: String?, timeout: Duration?,
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws -> ServerTarget {
        let (address, source) =
            if let server { (server, "--server") } else {
                (environment["SIGNALBOX_SERVER"] ?? defaultServer, "SIGNALBOX_SERVER")
            }
        guard let (host, port) = split(address) else {
            throw ValidationError("\(source) is '\(address)', not host:port (or [IPv6]:port).")
        }
        let wait = try timeout ?? environment["SIGNALBOX_TIMEOUT"].map(timeoutFromEnvironment)
        guard (wait ?? defaultTimeout) > .zero else {
            throw ValidationError("The timeout must be more than 0.")
        }
        return ServerTarget(
            host: host, port: port, usesTLS: tls || tlsCA != nil, tlsRootsPath: tlsCA,
            timeout: wait ?? defaultTimeout)
    }

    private static func timeoutFromEnvironment(_ text: String) throws -> Duration {
        do {
            return try Duration(written: text)
        } catch {
            throw ValidationError("SIGNALBOX_TIMEOUT: \(error)")
        }
    }

    static func split(_ address: String) -> (host: String, port: Int)? {
        guard let colon = address.lastIndex(of: ":"),
            let port = Int(address[address.index(after: colon)...]), (1...65_535).contains(port)
        else { return nil }
        var host = address[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        return host.isEmpty ? nil : (String(host), port)
    }
}
