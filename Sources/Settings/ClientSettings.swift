package import ArgumentParser
package import GRPC

/// Every setting of a client that has a flag and an environment variable.
package struct ClientSettingsTable: SettingsTable {
    package let server = Setting(
        "server", .hostPort, default: HostPort(host: "127.0.0.1", port: 7600), "The server to call.")
    package let tls = Setting("tls", .bool, default: false, "Use TLS.")
    package let tlsCA = Setting(
        "tls-ca", .optionalText("FILE"), default: nil,
        "PEM file with the authorities to trust instead of the system's. Implies tls.")
    package let tlsCertificate = Setting(
        "tls-certificate", .optionalText("FILE"), default: nil,
        "PEM file with the client's certificate and its chain, for a server that requires one. Implies "
            + "tls. Requires tls-key.")
    package let tlsKey = Setting(
        "tls-key", .optionalText("FILE"), default: nil, "PEM file with the certificate's private key.")
    package let tokenFile = Setting(
        "token-file", .optionalText("FILE"), default: nil,
        "File with a token, for a server that requires credentials. The variable SIGNALBOX_TOKEN may hold "
            + "the token itself.")
    package let timeout = Setting(
        "timeout", .duration(.milliseconds(1) ... .seconds(3600)), default: .seconds(10),
        "The time limit of one call.")
}

/// The settings with which the client commands reach their server.
@dynamicMemberLookup
package struct ClientSettings: Sendable {
    static let table = ClientSettingsTable()
    /// The name of a flag that has no environment variable. `SIGNALBOX_INSECURE` is a setting of the server, and
    /// a variable that was exported for a server must not make the clients on its machine insecure.
    static let insecureFlag = "insecure"

    private let values: SettingValues
    /// The bearer token of `SIGNALBOX_TOKEN`, which is sent with each call; nil: none, or one in `tokenFile`.
    package let token: String?
    /// Whether a token may be sent to another machine without TLS.
    package let insecure: Bool

    package subscript<Value>(dynamicMember member: KeyPath<ClientSettingsTable, Setting<Value>>) -> Value {
        values[Self.table[keyPath: member]]
    }

    package var tls: Bool { values[Self.table.tls] || self.tlsCA != nil || self.tlsCertificate != nil }

    /// - Parameter flags: the flags that were given, by name without `--`.
    /// - Throws: an error with all problems.
    package static func resolve(
        flags: [String: String], environment: [String: String]
    ) throws(SettingsError) -> ClientSettings {
        let nowhere = Machine(cores: 1, hostName: "", processID: 0, isRoot: false, stateHome: "", home: "")
        var reader = SettingsReader(
            flags: flags, environment: environment, file: nil, machine: nowhere, problems: [])
        let settings = ClientSettings(
            values: SettingValues(of: table.all, &reader),
            token: environment["SIGNALBOX_TOKEN"].flatMap { $0.isEmpty ? nil : $0 },
            insecure: flags[insecureFlag] == "true")
        if (settings.tlsCertificate == nil) != (settings.tlsKey == nil) {
            reader.problems.append("tls-certificate and tls-key are needed together")
        }
        settings.checkTransport(into: &reader.problems)
        guard reader.problems.isEmpty else { throw SettingsError(problems: reader.problems) }
        return settings
    }

    /// Checks that a token, which is as sensitive as a password, is sent without TLS to this machine only, unless
    /// `--insecure` is given.
    private func checkTransport(into problems: inout [String]) {
        if tls {
            if insecure {
                problems.append(
                    "--insecure: a flag or a variable SIGNALBOX_TLS… also asks for TLS: remove one of them. "
                        + "--insecure sends a token without TLS; it does not make TLS trust a certificate, which "
                        + "--tls-ca FILE does")
            }
        } else if !insecure, !self.server.isLoopback, self.tokenFile != nil || token != nil {
            let source = self.tokenFile == nil ? "SIGNALBOX_TOKEN" : "token-file"
            problems.append(
                "the token of \(source) was not sent: \(self.server) is not on this machine, and without TLS the token "
                    + "could be read on the network. Give --tls or --tls-ca FILE, or --insecure to send it in the clear"
            )
        }
    }
}

/// The client's settings as flags of a command, to be used as its `@OptionGroup`.
package struct ClientOptions: ParsableArguments {
    @Option(name: .long, help: ClientSettings.table.server.argumentHelp)
    package var server: String?
    @Flag(name: .long, help: ClientSettings.table.tls.argumentHelp)
    package var tls = false
    @Option(name: .customLong(ClientSettings.table.tlsCA.name), help: ClientSettings.table.tlsCA.argumentHelp)
    package var tlsCA: String?
    @Option(name: .long, help: ClientSettings.table.tlsCertificate.argumentHelp)
    package var tlsCertificate: String?
    @Option(name: .long, help: ClientSettings.table.tlsKey.argumentHelp)
    package var tlsKey: String?
    @Option(name: .long, help: ClientSettings.table.tokenFile.argumentHelp)
    package var tokenFile: String?
    @Option(name: .long, help: ClientSettings.table.timeout.argumentHelp)
    package var timeout: String?
    @Flag(
        name: .customLong(ClientSettings.insecureFlag),
        help: "Send a token in the clear, without TLS, to another machine. It has no environment variable.")
    package var insecure = false

    package init() {}

    package func settings(environment: [String: String]) throws(SettingsError) -> ClientSettings {
        var flags: [String: String] = [:]
        flags[ClientSettings.table.server.name] = server
        flags[ClientSettings.table.tls.name] = tls ? "true" : nil
        flags[ClientSettings.table.tlsCA.name] = tlsCA
        flags[ClientSettings.table.tlsCertificate.name] = tlsCertificate
        flags[ClientSettings.table.tlsKey.name] = tlsKey
        flags[ClientSettings.table.tokenFile.name] = tokenFile
        flags[ClientSettings.table.timeout.name] = timeout
        flags[ClientSettings.insecureFlag] = insecure ? "true" : nil
        return try ClientSettings.resolve(flags: flags, environment: environment)
    }
}

extension AnySetting {
    fileprivate var argumentHelp: ArgumentHelp {
        let notes = "(default: \(defaultText); env: \(environmentName))"
        return ArgumentHelp("\(help) \(notes)", valueName: placeholder?.lowercased() ?? "value")
    }
}
