import ArgumentParser
import Settings
import Testing

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

    @Test func aCertificateOfOnesOwn() throws {
        let options = try ClientOptions.parse(["--tls-certificate", "me.pem"])
        let settings = try options.settings(environment: ["SIGNALBOX_TLS_KEY": "me-key.pem"])
        #expect(settings.tls && settings.tlsCertificate == "me.pem" && settings.tlsKey == "me-key.pem")
        let error = #expect(throws: SettingsError.self) { try options.settings(environment: [:]) }
        #expect(error?.problems == ["tls-certificate and tls-key are needed together"])
    }

    @Test func badValues() {
        let error = #expect(throws: SettingsError.self) {
            try ClientSettings.resolve(flags: ["server": "x"], environment: ["SIGNALBOX_TLS": "maybe"])
        }
        #expect(
            error?.problems == [
                "--server: 'x' is wrong: wants HOST:PORT, as in 127.0.0.1:7600 or [::1]:7600",
                "SIGNALBOX_TLS: 'maybe' is wrong: wants true or false",
            ])
    }
}
