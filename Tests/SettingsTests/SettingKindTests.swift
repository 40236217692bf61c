import Settings
import Testing

@Suite struct SettingKindTests {
    @Test(arguments: [
        ("500ms", Duration.milliseconds(500)), ("15s", .seconds(15)), ("10m", .seconds(600)),
        ("2h", .seconds(7200)), ("7d", .seconds(604_800)), ("0s", .zero),
    ])
    func durationsReadAndWrite(_ text: String, _ duration: Duration) {
        #expect(DurationText.duration(text) == duration)
        #expect(DurationText.text(duration) == text)
    }

    @Test(arguments: [
        "", "5", "s", "-1s", "1.5s", "1 s", "1S", "1w", "99999999999999999999s", "9223372036854775807d",
    ])
    func whatIsNoDuration(_ text: String) {
        #expect(DurationText.duration(text) == nil)
    }

    @Test func durationsAreShownInTheLargestWholeUnit() {
        #expect(DurationText.text(.milliseconds(1500)) == "1500ms")
        #expect(DurationText.text(.seconds(90)) == "90s")
        #expect(DurationText.text(.seconds(86_400)) == "1d")
    }

    @Test(arguments: ["127.0.0.1:7600", "localhost:0", "[::1]:80", "box.example.org:65535"])
    func hostPortsReadAndWrite(_ text: String) {
        #expect(HostPort(text)?.description == text)
    }

    @Test(arguments: ["", ":1", "host", "host:", "host:65536", "host:+1", "::1:80", "a b:1", "host:1 "])
    func whatIsNoHostPort(_ text: String) {
        #expect(HostPort(text) == nil)
    }

    @Test(arguments: [
        "127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:2", "localhost",
        "LocalHost",
    ])
    func loopback(_ host: String) {
        #expect(HostPort(host: host, port: 1).isLoopback)
    }

    /// Also what only a resolver could say to be loopback.
    @Test(arguments: [
        "0.0.0.0", "10.0.0.1", "::", "127.example.org", "127.0.0.1.example.org", "127.0.0", "127.0.0.+1",
        "127.0.0.1.", "localhost.", "localhost.example.org", "::ffff:10.0.0.1", "::7f00:1", "::2", "1::1", "",
    ])
    func beyondLoopback(_ host: String) {
        #expect(!HostPort(host: host, port: 1).isLoopback)
    }
}
