import Authentication
import GRPC
import Logging
import Testing

@testable import Settings
@testable import Signalbox

@Suite struct SignalboxConfigurationTests {
    private let logger = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }

    private func problems(_ change: (inout SignalboxConfiguration) -> Void) -> [String] {
        var configuration = SignalboxConfiguration()
        change(&configuration)
        let error = #expect(throws: SettingsError.self) {
            try SignalboxServer(handlers: [], configuration: configuration, logger: logger)
        }
        return error?.problems ?? []
    }

    @Test func nothingSetIsTheDefaults() throws {
        let settings = try ServerSettings.resolve(values: SignalboxConfiguration().values)
        #expect(settings == (try ServerSettings.resolve(arguments: [], environment: [:])))
    }

    @Test func everySettingIsOneThatTheServerHas() throws {
        var configuration = SignalboxConfiguration()
        configuration.host = "::1"
        configuration.port = 0
        configuration.isInsecure = true
        configuration.tlsCertificate = "/c"
        configuration.tlsKey = "/k"
        configuration.tlsClientCA = "/a"
        configuration.databaseURL = "postgresql://user:secret@localhost/jobs"
        configuration.stateDirectory = "/s"
        configuration.databaseConnections = 7
        configuration.retention = .seconds(61)
        configuration.auditRetention = .seconds(62)
        configuration.concurrency = 3
        configuration.nodeName = "n"
        configuration.grace = .milliseconds(1500)
        configuration.lease = .seconds(6)
        configuration.pollInterval = .milliseconds(51)
        configuration.handlesTestKinds = true
        configuration.userLimit = 4
        configuration.pendingJobsPerUserMax = 5
        configuration.pendingPayloadBytesPerUserMax = 6
        configuration.enqueuesPerSecondPerUserMax = 8
        configuration.watchesPerUserMax = 9
        configuration.eventLoops = 2
        configuration.connectionsMax = 10
        configuration.connectionsPerAddressMax = 11
        configuration.idleTimeout = .seconds(12)
        configuration.keepaliveInterval = .seconds(13)
        configuration.keepaliveTimeout = .seconds(14)
        configuration.connectionAgeMax = .seconds(15)
        configuration.connectionAgeGrace = .seconds(16)
        configuration.tokenFile = "/t"
        var jwt = SignalboxConfiguration.JWT(keys: "/j", issuer: "i", audience: "a")
        jwt.leeway = .seconds(17)
        jwt.usersClaim = "u"
        jwt.tokenType = "at+jwt"
        configuration.jwt = jwt
        // The program configures the log. A file is not read here.
        let names = Set(ServerSettings.table.all.map(\.name)).subtracting([
            "log-level", "log-format", "config",
        ])
        #expect(Set(configuration.values.keys) == names)
        let settings = try ServerSettings.resolve(values: configuration.values)
        #expect(settings.listen == HostPort(host: "::1", port: 0) && settings.insecure)
        #expect(settings.databaseURL == configuration.databaseURL && !settings.databaseURLIsFlag)
        #expect(settings.grace == .milliseconds(1500) && settings.concurrency == 3 && settings.testKinds)
        let accepted = settings.authentication.jwt
        #expect(
            accepted?.leeway == .seconds(17) && accepted?.usersClaim == "u"
                && accepted?.tokenType == .accessToken)
        #expect(settings.maxConnectionAgeGrace == .seconds(16) && settings.tlsClientCA == "/a")
        #expect(!"\(configuration)".contains("secret") && !"\([configuration])".contains("secret"))
    }

    @Test func whatIsWrongIsNamed() {
        let problems = problems {
            $0.concurrency = -1
            $0.grace = .seconds(-5)
            $0.databaseURL = ""
        }
        #expect(problems.count == 3)
        #expect(problems.contains("concurrency: '-1' is invalid: must be a whole number from 0 to 10000"))
        #expect(
            problems.contains { $0.hasPrefix("grace: '-5s' is invalid: must be a duration from 0s to 10m") })
        #expect(problems.contains { $0.hasPrefix("database-url: the value is invalid") })
    }

    @Test func rulesAcrossSettingsHoldToo() {
        #expect(problems { $0.tlsKey = "/k" } == ["tls-certificate and tls-key are needed together"])
        #expect(problems { $0.host = "0.0.0.0" }.count == 2)
        #expect(problems { $0.databaseURL = "postgresql://[" }.first?.hasPrefix("database-url: ") == true)
    }

    @Test func aNameThatIsNoSettingIsRefused() {
        let error = #expect(throws: SettingsError.self) {
            try ServerSettings.resolve(values: ["graze": "1s"])
        }
        #expect(error?.problems == ["unknown setting 'graze'"])
    }
}
