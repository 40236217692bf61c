import GRPC
import Logging
import Postgres
import Settings

extension ServerSettings {
    /// The warnings about unsafe settings, each a whole sentence without secrets. They are logged at every start.
    var warnings: [Logger.Message] {
        insecureWarnings + [passwordInFlagWarning].compactMap(\.self)
    }

    private var insecureWarnings: [Logger.Message] {
        guard self.insecure else { return [] }
        var warnings: [Logger.Message] = []
        if !authenticates {
            warnings.append(
                """
                --insecure: calls need no credentials: everyone who reaches \(self.listen) may enqueue, read and cancel the \
                jobs of all users, and administer the server
                """)
        }
        if self.tlsCertificate == nil {
            warnings.append(
                """
                --insecure: there is no TLS: a machine between a client and \(self.listen) can read and change everything \
                that is sent, tokens and payloads included
                """)
        }
        if fetchesKeysInTheClear {
            warnings.append(
                """
                --insecure: the keys of auth-jwks are fetched without TLS: a machine in between can replace them, \
                and then call as any user
                """)
        }
        if warnings.isEmpty {
            warnings.append(
                """
                --insecure: these settings do not need it, and with it the server would also start without TLS and \
                without authentication: leave it out
                """)
        }
        return warnings
    }

    /// The warning about a password in a flag. `migrate` logs only this one.
    var passwordInFlagWarning: Logger.Message? {
        guard databaseURLIsFlag, databaseTarget?.hasSecret == true else { return nil }
        return """
            --database-url has a password in it, and every user of this machine can read flags in the list of \
            processes: give the URL in the variable SIGNALBOX_DATABASE_URL or in the file of --config, or the \
            password in a passfile (passfile=FILE in the URL, or ~/.pgpass)
            """
    }

    /// The notice that the identity of a database on another machine is not verified; nil if it is, or does not
    /// matter.
    var unverifiedDatabaseNotice: Logger.Message? {
        guard let target = databaseTarget, target.sslMode != "verify-full",
            let host = target.hosts.first(where: Self.isBeyondThisMachine)
        else { return nil }
        return """
            the Postgres on \(host) is used with sslmode=\(target.sslMode), which does not verify that the \
            server is the one on \(host): give sslmode=verify-full, with sslrootcert=FILE for the authority that \
            has signed its certificate
            """
    }

    private var databaseTarget: ConnectionTarget? {
        self.databaseURL.flatMap { Connection.target(ofConnectionString: $0) }
    }

    /// Whether the host is another machine. A path or an abstract name (`@…`) is a Unix socket.
    private static func isBeyondThisMachine(_ host: String) -> Bool {
        !host.hasPrefix("/") && !host.hasPrefix("@") && !HostPort(host: host, port: 0).isLoopback
    }
}
