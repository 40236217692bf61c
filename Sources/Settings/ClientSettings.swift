package import ArgumentParser

/// Where the client commands find their server, and how.
package struct ClientSettings: Sendable, Hashable {
    package var server: HostPort
    package var tls: Bool
    /// Nil: the authorities that the system trusts.
    package var tlsCA: String?
    /// Both or neither: for a server that asks for a client's certificate.
    package var tlsCertificate: String?
    package var tlsKey: String?
    /// A file with a bearer token, sent with each call; or the token itself.
    package var tokenFile: String?
    package var token: String?
    /// A token may go without TLS to another machine.
    package var insecure: Bool
    /// Of one call; a stream has none.
    package var timeout: Duration

    /// Every setting of a client, once.
    enum Table {
        static let server = Setting(
            "server", .hostPort, default: HostPort(host: "127.0.0.1", port: 7600), "The server to call.")
        static let tls = Setting("tls", .bool, default: false, "Talk TLS.")
        static let tlsCA = Setting(
            "tls-ca", .optionalText("FILE"), default: nil,
            "PEM file with the authorities to trust instead of the system's. Means tls.")
        static let tlsCertificate = Setting(
            "tls-certificate", .optionalText("FILE"), default: nil,
            "PEM file with the client's certificate and its chain, for a server that asks for one. Means tls. "
                + "With tls-key.")
        static let tlsKey = Setting(
            "tls-key", .optionalText("FILE"), default: nil, "PEM file with the certificate's private key.")
        static let tokenFile = Setting(
            "token-file", .optionalText("FILE"), default: nil,
            "File with a token, for a server that asks who calls. The variable SIGNALBOX_TOKEN may have the token "
                + "itself.")
        static let timeout = Setting(
            "timeout", .duration(.milliseconds(1) ... .seconds(3600)), default: .seconds(10),
            "How long one call may take.")

        static let all: [any AnySetting] = [server, tls, tlsCA, tlsCertificate, tlsKey, tokenFile, timeout]

        /// A flag alone: `SIGNALBOX_INSECURE` is the server's, and what is exported for a server must not make
        /// its machine's clients careless.
        static let insecure = "insecure"
    }

    /// - Parameter flags: by name without `--`, only those that were given.
    package static func resolve(
        flags: [String: String], environment: [String: String]
    ) throws(SettingsError) -> ClientSettings {
        let nowhere = Machine(cores: 1, hostName: "", processID: 0, isRoot: false, stateHome: "", home: "")
        var reader = SettingsReader(
            flags: flags, environment: environment, file: nil, machine: nowhere, problems: [])
        var settings = ClientSettings(
            server: reader.value(Table.server), tls: reader.value(Table.tls),
            tlsCA: reader.value(Table.tlsCA), tlsCertificate: reader.value(Table.tlsCertificate),
            tlsKey: reader.value(Table.tlsKey), tokenFile: reader.value(Table.tokenFile),
            token: environment["SIGNALBOX_TOKEN"].flatMap { $0.isEmpty ? nil : $0 },
            insecure: flags[Table.insecure] == "true", timeout: reader.value(Table.timeout))
        if settings.tlsCA != nil || settings.tlsCertificate != nil { settings.tls = true }
        if (settings.tlsCertificate == nil) != (settings.tlsKey == nil) {
            reader.problems.append("tls-certificate and tls-key are needed together")
        }
        settings.checkTransport(into: &reader.problems)
        guard reader.problems.isEmpty else { throw SettingsError(problems: reader.problems) }
        return settings
    }

    /// A token is worth as much as a password: without TLS it goes to this machine only, unless that is asked for.
    private func checkTransport(into problems: inout [String]) {
        if tls {
            if insecure {
                problems.append(
                    "--insecure: TLS is asked for too, by a flag or a variable SIGNALBOX_TLS…: leave one of them out. "
                        + "--insecure sends a token without TLS; it does not make TLS trust a certificate, which "
                        + "--tls-ca FILE does")
            }
        } else if !insecure, !server.isLoopback, tokenFile != nil || token != nil {
            let source = tokenFile == nil ? "SIGNALBOX_TOKEN" : "token-file"
            problems.append(
                "the token of \(source) was not sent: \(server) is not on this machine, and without TLS everybody on "
                    + "the way could read it. Give --tls or --tls-ca FILE, or --insecure to send it in the clear"
            )
        }
    }
}

/// The same as flags of a command, to be used as its `@OptionGroup`.
package struct ClientOptions: ParsableArguments {
    @Option(name: .long, help: ClientSettings.Table.server.argumentHelp)
    package var server: String?
    @Flag(name: .long, help: ClientSettings.Table.tls.argumentHelp)
    package var tls = false
    @Option(name: .customLong(ClientSettings.Table.tlsCA.name), help: ClientSettings.Table.tlsCA.argumentHelp)
    package var tlsCA: String?
    @Option(name: .long, help: ClientSettings.Table.tlsCertificate.argumentHelp)
    package var tlsCertificate: String?
    @Option(name: .long, help: ClientSettings.Table.tlsKey.argumentHelp)
    package var tlsKey: String?
    @Option(name: .long, help: ClientSettings.Table.tokenFile.argumentHelp)
    package var tokenFile: String?
    @Option(name: .long, help: ClientSettings.Table.timeout.argumentHelp)
    package var timeout: String?
    @Flag(
        name: .customLong(ClientSettings.Table.insecure),
        help: "Send a token in the clear, without TLS, to another machine. Only a flag, with no variable.")
    package var insecure = false

    package init() {}

    package func settings(environment: [String: String]) throws(SettingsError) -> ClientSettings {
        var flags: [String: String] = [:]
        flags[ClientSettings.Table.server.name] = server
        flags[ClientSettings.Table.tls.name] = tls ? "true" : nil
        flags[ClientSettings.Table.tlsCA.name] = tlsCA
        flags[ClientSettings.Table.tlsCertificate.name] = tlsCertificate
        flags[ClientSettings.Table.tlsKey.name] = tlsKey
        flags[ClientSettings.Table.tokenFile.name] = tokenFile
        flags[ClientSettings.Table.timeout.name] = timeout
        flags[ClientSettings.Table.insecure] = insecure ? "true" : nil
        return try ClientSettings.resolve(flags: flags, environment: environment)
    }
}

extension AnySetting {
    fileprivate var argumentHelp: ArgumentHelp {
        let notes = "(default: \(defaultText); env: \(environmentName))"
        return ArgumentHelp("\(help) \(notes)", valueName: placeholder?.lowercased() ?? "value")
    }
}
