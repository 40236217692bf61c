import ArgumentParser

/// Which server, for every command.
struct ConnectionOptions: ParsableArguments {
    @Option(help: "Address of the server, host:port. [env: SIGNALBOX_SERVER; default: 127.0.0.1:7600]")
    var server: String?

    @Flag(help: "Connect with TLS, trusting the system's certificate authorities.")
    var tls = false

    @Option(
        name: .customLong("tls-ca"),
        help: ArgumentHelp("Connect with TLS, trusting the authorities in this PEM file.", valueName: "file"))
    var tlsCA: String?
}

/// What every command but `enqueue` takes (there `--timeout` is the job's).
struct ServiceOptions: ParsableArguments {
    @OptionGroup var connection: ConnectionOptions

    @Option(
        help: "How long to wait for the server, as in 500ms or 10s. [env: SIGNALBOX_TIMEOUT; default: 10s]",
        transform: Duration.init(written:))
    var timeout: Duration?

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    func target() throws -> ServerTarget {
        try .resolve(
            server: connection.server, tls: connection.tls, tlsCA: connection.tlsCA, timeout: timeout)
    }
}
