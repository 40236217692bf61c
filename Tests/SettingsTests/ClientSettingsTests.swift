import ArgumentParser
import GRPC
import Testing

@testable import Settings

@Suite struct ClientSettingsTests {
    @Test func defaults() throws {
        let settings = try ClientSettings.resolve(flags: [:], environment: [:])
        #expect(settings.server == HostPort(host: "127.0.0.1", port: 7600))
        #expect(!settings.tls && settings.tlsCA == nil && settings.timeout == .seconds(10))
    }

    @Test func flagsBeforeEnvironment() throws {
        var options = try ClientOptions.parse(["--server", "a:1", "--tls-ca", "ca.pem"])
        let environment = ["SIGNALBOX_SERVER": "b:2", "SIGNALBOX_TIMEOUT": "2s"]
        var settings = try options.settings(environment: environment)
        #expect(settings.server == HostPort(host: "a", port: 1))
        #expect(settings.tls && settings.tlsCA == "ca.pem" && settings.timeout == .seconds(2))
        options = try ClientOptions.parse(["--tls"])
        settings = try options.settings(environment: environment)
        #expect(settings.server == HostPort(host: "b", port: 2))
        #expect(settings.tls && settings.tlsCA == nil)
    }

    /// swift-argument-parser needs a property for each flag, so a setting could be left out there.
    @Test func everySettingIsAFlag() throws {
        let flags = [
            "server": "a:1", "tls-ca": "c", "tls-certificate": "m", "tls-key": "k", "token-file": "t",
            "timeout": "3s",
        ]
        #expect(Set(ClientSettings.table.all.map(\.name)) == Set(flags.keys).union(["tls"]))
        let options = try ClientOptions.parse(flags.flatMap { ["--\($0)", $1] } + ["--tls"])
        let settings = try options.settings(environment: [:])
        #expect(settings.server == HostPort(host: "a", port: 1) && settings.timeout == .seconds(3))
        #expect(settings.tlsCA == "c" && settings.tlsCertificate == "m" && settings.tlsKey == "k")
        #expect(settings.tls && settings.tokenFile == "t")
    }

    @Test func aCertificateOfOnesOwn() throws {
        let options = try ClientOptions.parse(["--tls-certificate", "me.pem"])
        let settings = try options.settings(environment: ["SIGNALBOX_TLS_KEY": "me-key.pem"])
        #expect(settings.tls && settings.tlsCertificate == "me.pem" && settings.tlsKey == "me-key.pem")
        let error = #expect(throws: SettingsError.self) { try options.settings(environment: [:]) }
        #expect(error?.problems == ["tls-certificate and tls-key are needed together"])
    }

    private func problems(_ arguments: [String], _ environment: [String: String] = [:]) throws -> [String] {
        do {
            _ = try ClientOptions.parse(arguments).settings(environment: environment)
            return []
        } catch let error as SettingsError {
            return error.problems
        }
    }

    private let token = ["SIGNALBOX_TOKEN": "sbx_s3cret"]

    /// Whether it is there or not: the file is not read for this.
    @Test(arguments: [
        "10.0.0.1:7600", "[::ffff:10.0.0.1]:7600", "box.example.org:7600", "localhost.example.org:1",
        "0.0.0.0:1",
    ])
    func aTokenDoesNotLeaveTheMachineWithoutTLS(_ server: String) throws {
        let ways: [(source: String, arguments: [String], environment: [String: String])] = [
            ("SIGNALBOX_TOKEN", [], token), ("token-file", ["--token-file", "t"], [:]),
            ("token-file", ["--token-file", "t"], token),
            ("token-file", [], ["SIGNALBOX_TOKEN_FILE": "t"]),
        ]
        for (source, arguments, environment) in ways {
            #expect(
                try problems(["--server", server] + arguments, environment) == [
                    "the token of \(source) was not sent: \(server) is not on this machine, and without TLS "
                        + "the token could be read on the network. Give --tls or --tls-ca FILE, or --insecure "
                        + "to send it in the clear"
                ])
            for flags in [["--tls"], ["--tls-ca", "ca.pem"], ["--insecure"]] {
                #expect(try problems(["--server", server] + arguments + flags, environment) == [])
            }
        }
        #expect(try problems(["--server", server]) == [])
        #expect(try problems(["--server", server], ["SIGNALBOX_TOKEN": ""]) == [])
    }

    @Test(arguments: [
        "127.0.0.1:7600", "127.1.2.3:1", "[::1]:7600", "[::ffff:127.0.0.1]:1", "localhost:7600",
    ])
    func aTokenForThisMachineNeedsNoTLS(_ server: String) throws {
        #expect(try problems(["--server", server], token) == [])
        #expect(try problems(["--server", server, "--token-file", "t"]) == [])
    }

    /// What is exported for a server says nothing about its clients.
    @Test func theVariableOfTheServerDoesNotMakeAClientInsecure() throws {
        let both = ["SIGNALBOX_INSECURE": "true"].merging(token) { first, _ in first }
        #expect(try problems(["--server", "box:1"], both).count == 1)
    }

    @Test func insecureIsNoWayToTrustACertificate() throws {
        let ways: [(flags: [String], environment: [String: String])] = [
            (["--tls"], [:]), (["--tls-ca", "ca.pem"], token), ([], ["SIGNALBOX_TLS": "true"]),
        ]
        for (flags, environment) in ways {
            let problem = try #require(problems(["--insecure"] + flags, environment).first)
            #expect(problem.hasPrefix("--insecure: a flag or a variable SIGNALBOX_TLS… also asks for TLS"))
        }
    }

    @Test func badValues() {
        let error = #expect(throws: SettingsError.self) {
            try ClientSettings.resolve(flags: ["server": "x"], environment: ["SIGNALBOX_TLS": "maybe"])
        }
        #expect(
            error?.problems == [
                "--server: 'x' is invalid: must be HOST:PORT, as in 127.0.0.1:7600 or [::1]:7600",
                "SIGNALBOX_TLS: 'maybe' is invalid: must be true or false",
            ])
    }
}
