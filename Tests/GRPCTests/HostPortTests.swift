import GRPC
import Testing

@Suite struct HostPortTests {
    @Test(arguments: ["127.0.0.1:7600", "localhost:0", "[::1]:80", "box.example.org:65535"])
    func readAndWrite(_ text: String) {
        #expect(HostPort(text)?.description == text)
    }

    @Test(arguments: ["", ":1", "host", "host:", "host:65536", "host:+1", "::1:80", "a b:1", "host:1 "])
    func otherTextIsRefused(_ text: String) {
        #expect(HostPort(text) == nil)
    }

    @Test(arguments: [
        "127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:2", "localhost",
        "LocalHost",
    ])
    func loopback(_ host: String) {
        #expect(HostPort(host: host, port: 1).isLoopback)
    }

    /// Some of these names are loopback only by what a resolver answers.
    @Test(arguments: [
        "0.0.0.0", "10.0.0.1", "::", "127.example.org", "127.0.0.1.example.org", "127.0.0", "127.0.0.+1",
        "127.0.0.1.", "localhost.", "localhost.example.org", "::ffff:10.0.0.1", "::7f00:1", "::2", "1::1", "",
    ])
    func beyondLoopback(_ host: String) {
        #expect(!HostPort(host: host, port: 1).isLoopback)
    }
}
