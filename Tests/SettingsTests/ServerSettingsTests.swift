import Authentication
import Foundation
import GRPC
import JobEngine
import JobModel
import Support
import Testing

@testable import Settings

private let machine = Machine(
    cores: 4, hostName: "box", processID: 77, isRoot: false, stateHome: "", home: "/home/ada")

private func resolve(
    _ arguments: [String] = [], environment: [String: String] = [:], file: String? = nil
) throws(SettingsError) -> ServerSettings {
    try ServerSettings.resolve(
        arguments: arguments + (file == nil ? [] : ["--config", "s.yaml"]), environment: environment,
        machine: machine
    ) { path throws(SettingsError) in
        guard path == "s.yaml", let file else { throw SettingsError(problems: ["\(path): is not there"]) }
        return file
    }
}

private func problems(
    _ arguments: [String] = [], environment: [String: String] = [:], file: String? = nil
) -> [String] {
    do {
        _ = try resolve(arguments, environment: environment, file: file)
        return []
    } catch {
        return error.problems
    }
}

@Suite struct ServerSettingsTests {
    private static let variableRule =
        ": a name must not be empty, begin with a digit or SIGNALBOX_, or contain '='"

    @Test func defaults() throws {
        let settings = try resolve()
        #expect(settings.listen == HostPort(host: "127.0.0.1", port: 7600))
        #expect(settings.databaseURL == nil && settings.config == nil && settings.tlsCertificate == nil)
        #expect(settings.stateDirectory == "/home/ada/.local/state/signalbox")
        #expect(settings.concurrency == 32 && settings.eventLoops == 4 && settings.nodeName == "box:77")
        #expect(settings.userLimit == 3 && !settings.testKinds && !settings.insecure)
        #expect(settings.grace == .seconds(10) && settings.retention == .seconds(604_800))
        #expect(settings.lease == .seconds(15) && settings.pollInterval == .seconds(1))
        #expect(settings.logLevel == .info && settings.logFormat == .text)
        #expect(settings.databaseConnections == 4 && settings.maxConnections == 10_000)
        #expect(settings.queues.isEmpty && settings.commands.isEmpty)
    }

    @Test func quotasAreOffUnlessSet() throws {
        let off = try resolve()
        #expect(off.auditRetention == .seconds(90 * 86_400))
        #expect(off.maxPendingPerUser == nil && off.maxPendingPayloadPerUser == nil)
        #expect(off.enqueueRatePerUser == nil && off.maxWatchesPerUser == nil)
        let on = try resolve(
            ["--max-pending-per-user", "1000", "--max-watches-per-user=5"],
            environment: ["SIGNALBOX_ENQUEUE_RATE_PER_USER": "20"],
            file: "max_pending_payload_per_user: 1048576\naudit_retention: 1d\n")
        #expect(on.maxPendingPerUser == 1000 && on.maxPendingPayloadPerUser == 1 << 20)
        #expect(on.enqueueRatePerUser == 20 && on.maxWatchesPerUser == 5)
        #expect(on.auditRetention == .seconds(86_400))
        #expect(
            problems(["--max-pending-per-user", "0"])
                == ["--max-pending-per-user: '0' is invalid: must be a whole number from 1 to 100000"])
    }

    @Test func stateDirectories() throws {
        var other = machine
        other.stateHome = "/state"
        #expect(
            try ServerSettings.resolve(arguments: [], environment: [:], machine: other).stateDirectory
                == "/state/signalbox")
        other.isRoot = true
        #expect(
            try ServerSettings.resolve(arguments: [], environment: [:], machine: other).stateDirectory
                == "/var/lib/signalbox")
        // systemd may pass several.
        other.unitStateDirectories = "/var/lib/one:/var/lib/two"
        #expect(
            try ServerSettings.resolve(arguments: [], environment: [:], machine: other).stateDirectory
                == "/var/lib/one")
    }

    @Test func flagBeforeEnvironmentBeforeFile() throws {
        let environment = ["SIGNALBOX_GRACE": "2s", "SIGNALBOX_LEASE": "20s", "SIGNALBOX_USER_LIMIT": ""]
        let file = "grace: 3s\nlease: 30s\nuser_limit: 9\nretention: 1d\n"
        let settings = try resolve(["--grace", "1s"], environment: environment, file: file)
        #expect(settings.grace == .seconds(1))
        #expect(settings.lease == .seconds(20))
        #expect(settings.userLimit == 9)
        #expect(settings.retention == .seconds(86_400))
        #expect(settings.config == "s.yaml")
    }

    @Test func flagForms() throws {
        let settings = try resolve(
            ["--test-kinds", "--listen=[::1]:0", "--insecure=false", "--log-format", "JSON"],
            environment: ["SIGNALBOX_INSECURE": "yes"])
        #expect(settings.testKinds && !settings.insecure && settings.logFormat == .json)
        #expect(settings.listen == HostPort(host: "::1", port: 0))
    }

    @Test func theFileIsNamedByTheEnvironmentToo() throws {
        let settings = try ServerSettings.resolve(
            arguments: [], environment: ["SIGNALBOX_CONFIG": "e.yaml"], machine: machine
        ) { path throws(SettingsError) in "node_name: \(path)" }
        #expect(settings.nodeName == "e.yaml")
    }

    @Test func aMissingFileIsNamed() {
        #expect(problems(["--config", "other.yaml"]) == ["other.yaml: is not there"])
        let error = #expect(throws: SettingsError.self) {
            try ServerSettings.resolve(
                arguments: ["--config", "/nowhere/s.yaml"], environment: [:], machine: machine)
        }
        #expect(error?.description.hasPrefix("/nowhere/s.yaml: cannot be read") == true)
    }

    @Test(
        arguments: [
            (Data("grace: 1s".utf8), nil), (Data([0xFF]), "is not UTF-8"),
            (Data(repeating: 0x23, count: (1 << 20) + 1), "is larger than 1048576 bytes"),
        ] as [(Data, String?)])
    func readsTheFileItself(_ content: Data, _ problem: String?) throws {
        let path = FileManager.default.temporaryDirectory.path + "/settings-\(UUID()).yaml"
        try content.write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            let settings = try ServerSettings.resolve(
                arguments: ["--config", path], environment: [:], machine: machine)
            #expect(settings.grace == .seconds(1))
        } catch {
            #expect(error.problems == ["\(path): \(problem ?? "")"])
        }
    }

    @Test func badValuesSayWhereTheyCameFrom() {
        let problem = "is invalid: must be a duration from 0s to 10m, as in 500ms, 15s, 10m, 2h or 7d"
        #expect(problems(["--grace", "10"]) == ["--grace: '10' \(problem)"])
        #expect(problems(environment: ["SIGNALBOX_GRACE": "soon"]) == ["SIGNALBOX_GRACE: 'soon' \(problem)"])
        #expect(problems(file: "# x\ngrace: 1h\n") == ["s.yaml:2: grace: '1h' \(problem)"])
        #expect(
            problems(["--lease", "4s", "--log-level", "loud"]) == [
                "--lease: '4s' is invalid: must be a duration from 5s to 1m, as in 500ms, 15s, 10m, 2h or 7d",
                "--log-level: 'loud' is invalid: must be one of trace, debug, info, notice, warning, error, "
                    + "critical",
            ])
        #expect(problems(file: "grace: [1s]") == ["s.yaml:1: grace: must be a single value"])
    }

    @Test func unknownArguments() {
        #expect(
            problems(["--grase", "serve", "--lease"]) == [
                "unknown argument '--grase' (did you mean '--grace'?)",
                "argument 2 is not a setting: settings are given as --name VALUE",
                "--lease: the value is missing",
            ])
        #expect(problems(["--grace=1s", "--grace=2s"]) == ["--grace: is given twice"])
    }

    @Test func unknownKeysInTheFile() {
        #expect(
            problems(file: "lease: 15s\ngrase: 1s\nqueues:\n  slow:\n    limit: 1\nconfig: x\n") == [
                "s.yaml:2: unknown key 'grase' (did you mean 'grace'?)",
                "s.yaml:5: unknown key 'queues.slow.limit'",
                "s.yaml:6: unknown key 'config'",
            ])
        #expect(
            problems(file: "user-limit: 1") == [
                "s.yaml:1: unknown key 'user-limit' (did you mean 'user_limit'?)"
            ])
    }

    @Test func whatIsNoSettingsFile() {
        #expect(problems(file: "- a") == ["s.yaml:1: must be a mapping of keys to values"])
        #expect(problems(file: "a: [").first?.hasPrefix("s.yaml:2: is not YAML: ") == true)
        #expect(problems(file: "grace: 1s\ngrace: 2s").count == 1)
        #expect(problems(file: "") == [] && problems(file: "# nothing\n") == [])
    }

    @Test func queuesAndCommands() throws {
        let settings = try resolve(
            file: """
                queues:
                  speech: {user_limit: 1}
                commands:
                  - kind: speech/say
                    command: ["./speak", "--fast", 3]
                    timeout: 10m
                    soft_timeout: 9m
                    on_interruption: fail
                    working_directory: /srv
                    environment: {VOICE: en, RATE: 22050}
                    environment_from: [API_KEY]
                    user: speech
                    group: 1001
                  - {kind: other, command: [tool], timeout: 1s}
                """)
        #expect(settings.queues == ["speech": QueueSettings(userLimit: 1)])
        #expect(
            settings.commands == [
                CommandDefinition(
                    KindDefinition(
                        kind: "speech/say", timeout: .seconds(600), softTimeout: .seconds(540),
                        onInterruption: .fail),
                    command: ["./speak", "--fast", "3"], workingDirectory: "/srv",
                    environment: ["VOICE": "en", "RATE": "22050"], environmentFrom: ["API_KEY"],
                    user: "speech", group: "1001"),
                CommandDefinition(KindDefinition(kind: "other", timeout: .seconds(1)), command: ["tool"]),
            ])
    }

    @Test func badCommands() {
        let file = """
            commands:
              - {kind: a, command: [x], timeout: 1s}
              - {kind: a, command: [x], timeout: 1s}
              - {kind: b, command: [x]}
              - {kind: b c, command: [x], timeout: 1s}
              - {kind: c, command: x, timeout: 1s}
              - {kind: d, command: [], timeout: 1s}
              - {kind: e, command: [x], timeout: 31d}
              - {kind: f, command: [x], timeout: 1s, soft_timeout: 1s}
              - {kind: g, command: [x], timeout: 1s, retry: 1}
              - {kind: h, command: [x], timeout: 1s, environment: {1A: x, SIGNALBOX_X: y}}
              - plain
            queues: {"no name": {user_limit: 1}, q: {user_limit: -1}}
            """
        let list = "must be a list of the executable and its arguments, as in [\"./speak\", \"--fast\"]"
        #expect(
            problems(file: file) == [
                "s.yaml:3: commands[1].kind: 'a' is given twice",
                "s.yaml:4: commands[2]: needs kind, command and timeout",
                "s.yaml:5: commands[3].kind: 'b c' is invalid: must be 1 to 128 characters of a–z, A–Z, 0–9, "
                    + "'.', '_', '-' and '/'",
                "s.yaml:6: commands[4].command: \(list)",
                "s.yaml:7: commands[5].command: \(list)",
                "s.yaml:8: commands[6].timeout: '31d' is invalid: must be a duration from 1ms to 30d, as in "
                    + "500ms, 15s, 10m, 2h or 7d",
                "s.yaml:9: commands[7].soft_timeout: is not less than timeout",
                "s.yaml:10: unknown key 'commands[8].retry'",
                "s.yaml:11: commands[9].environment: '1A' cannot be set" + Self.variableRule,
                "s.yaml:11: commands[9].environment: 'SIGNALBOX_X' cannot be set" + Self.variableRule,
                "s.yaml:12: commands[10]: must be a mapping of keys to values",
                "s.yaml:13: queues: 'no name' is not a valid name of a queue",
                "s.yaml:13: queues.q.user_limit: '-1' is invalid: must be a whole number from 0 to 100000",
            ])
    }

    /// A server that is root would make its commands root as well.
    @Test func rootNamesTheUsersOfCommands() {
        func problems(_ rest: String, isRoot: Bool = true) -> [String] {
            var machine = machine
            machine.isRoot = isRoot
            do throws(SettingsError) {
                _ = try ServerSettings.resolve(
                    arguments: ["--config", "s.yaml"], environment: [:], machine: machine
                ) { _ in "commands: [{kind: a, command: [x], timeout: 1s\(rest)}]" }
                return []
            } catch {
                return error.problems
            }
        }
        #expect(
            problems("") == [
                "commands: 'a' has no user, and this server runs as root: give the user to run it as "
                    + "(user: NAME), or let it be root (user: root)"
            ])
        #expect(problems(", user: ada") == [] && problems(", user: root") == [])
        #expect(problems("", isRoot: false) == [])
    }

    @Test func badUsersAndVariablesOfCommands() {
        let file = """
            commands:
              - {kind: a, command: [x], timeout: 1s, group: ada}
              - {kind: b, command: [x], timeout: 1s, user: "", group: [x]}
              - {kind: c, command: [x], timeout: 1s, environment_from: [SIGNALBOX_DATABASE_URL, "A=B", 1A, "", OK]}
              - {kind: d, command: [x], timeout: 1s, environment_from: API_KEY}
              - {kind: e, command: [x], timeout: 1s, user: e, environment: {LD_PRELOAD: x}, environment_from: [GCONV_PATH]}
              - {kind: f, command: [x], timeout: 1s, environment: {LD_LIBRARY_PATH: /srv/lib, "": x}}
            """
        func steers(_ name: String) -> String {
            "s.yaml:6: commands[4]: '\(name)' cannot be set for a command with a user: set it in the command itself, "
                + "as in command: [env, \(name)=…, …]"
        }
        #expect(
            problems(file: file) == [
                "s.yaml:2: commands[0].group: requires user",
                "s.yaml:3: commands[1].user: '' is invalid: must be text of 1 to 256 bytes",
                "s.yaml:3: commands[1].group: must be a single value",
                "s.yaml:4: commands[2].environment_from: 'SIGNALBOX_DATABASE_URL' cannot be passed on"
                    + Self.variableRule,
                "s.yaml:4: commands[2].environment_from: 'A=B' cannot be passed on" + Self.variableRule,
                "s.yaml:4: commands[2].environment_from: '1A' cannot be passed on" + Self.variableRule,
                "s.yaml:4: commands[2].environment_from: '' cannot be passed on" + Self.variableRule,
                "s.yaml:5: commands[3].environment_from: must be a list of texts",
                steers("GCONV_PATH"), steers("LD_PRELOAD"),
                "s.yaml:7: commands[5].environment: '' cannot be set" + Self.variableRule,
            ])
    }

    @Test func rulesForCertificates() throws {
        let file = """
            auth:
              certificates:
                - {san: "dns:a.example", scopes: [jobs.enqueue, jobs.read]}
                - san: uri:spiffe://example/*
                  name: mesh
                  scopes: [admin]
                  users: all
                - {san: "email:b@example", scopes: [jobs.cancel], users: [ada, bob]}
            """
        let tls = ["--tls-key", "k", "--tls-certificate", "c", "--tls-client-ca", "a"]
        #expect(
            try resolve(tls, file: file).authentication.certificates == [
                CertificateRule(pattern: try #require(.init("dns:a.example")), scopes: [.enqueue, .read]),
                CertificateRule(
                    pattern: try #require(.init("uri:spiffe://example/*")), name: "mesh", scopes: [.admin],
                    users: .all),
                CertificateRule(
                    pattern: try #require(.init("email:b@example")), scopes: [.cancel],
                    users: .only(["ada", "bob"])),
            ])
        #expect(
            problems(tls, file: "auth: {certificates: [{san: a, scopes: [all]}, {name: b}], tokens: t}") == [
                "s.yaml:1: unknown key 'auth.tokens'",
                "s.yaml:1: auth.certificates[0].san: 'a' is invalid: must be dns:NAME, uri:URI or email:ADDRESS",
                "s.yaml:1: auth.certificates[0].scopes: must be a list of some of jobs.enqueue, jobs.read, "
                    + "jobs.cancel, admin",
                "s.yaml:1: auth.certificates[1]: needs san and scopes",
            ])
    }

    /// They would look like others in the audit and in logs.
    @Test func namesThatCannotBeSeen() {
        let tls = ["--tls-key", "k", "--tls-certificate", "c", "--tls-client-ca", "a"]
        let file = """
            auth:
              certificates:
                - {san: "dns:a", scopes: [admin], name: "a\\u202E"}
                - {san: "dns:b", scopes: [admin], users: [ada, "b\\u200B"]}
            """
        let rule = PrincipalName.rule
        let found = problems(tls, file: file)
        #expect(found.count == 2)
        #expect(found.first?.hasPrefix("s.yaml:3: auth.certificates[0].name: ") == true)
        #expect(found.first?.hasSuffix("must be \(rule)") == true)
        #expect(
            found.last
                == "s.yaml:4: auth.certificates[1].users: must be all, or a list of users, each \(rule)")
    }

    @Test func settingsThatGoTogether() {
        #expect(problems(["--tls-key", "k"]) == ["tls-certificate and tls-key are needed together"])
        #expect(problems(["--tls-client-ca", "c"]) == ["tls-client-ca needs tls-certificate and tls-key"])
        #expect(
            problems(["--listen", "0.0.0.0:1"]) == [
                "listen: other machines can reach 0.0.0.0:1, and there is no TLS: give a certificate with "
                    + "--tls-certificate FILE and --tls-key FILE (SIGNALBOX_TLS_CERTIFICATE, SIGNALBOX_TLS_KEY), or "
                    + "--insecure (SIGNALBOX_INSECURE=true) to send everything in the clear",
                "listen: other machines can reach 0.0.0.0:1, and calls need no credentials: give tokens with "
                    + "--auth-tokens FILE (SIGNALBOX_AUTH_TOKENS; `signalbox token create` makes them), or "
                    + "auth-jwks, or rules for client certificates in the file, or --insecure "
                    + "(SIGNALBOX_INSECURE=true) to require no credentials",
            ])
        #expect(problems(["--listen", "0.0.0.0:1", "--insecure"]) == [])
        let tls = ["--tls-key", "k", "--tls-certificate", "c"]
        #expect(problems(["--listen", "0.0.0.0:1", "--auth-tokens", "t"] + tls) == [])
        #expect(
            problems(["--auth-jwks", "k", "--auth-jwt-issuer", "i"]) == [
                "auth-jwks, auth-jwt-issuer and auth-jwt-audience are needed together"
            ])
        let jwt = ["--auth-jwt-issuer", "i", "--auth-jwt-audience", "a", "--auth-jwks"]
        for address in ["https://keys", "http://127.0.0.1:1/keys", "http://[::1]/keys", "http://localhost"] {
            #expect(problems(jwt + [address]) == [])
        }
        for address in ["http://keys", "http://127.0.0.1.example/", "HTTP://keys:80/k"] {
            #expect(
                problems(jwt + [address]) == [
                    "auth-jwks: without TLS, the keys could be replaced on the network: use https, or allow http with insecure"
                ])
        }
        let rules = "auth: {certificates: [{san: \"dns:a\", scopes: [admin]}]}"
        #expect(problems(tls, file: rules) == ["auth.certificates needs tls-client-ca"])
        #expect(problems(tls + ["--tls-client-ca", "a"], file: rules) == [])
    }

    @Test func knowsThatTheDatabaseWasGivenAsAFlag() throws {
        let variable = ["SIGNALBOX_DATABASE_URL": "postgresql:///b"]
        #expect(try resolve(["--database-url", "postgresql:///a"], environment: variable).databaseURLIsFlag)
        #expect(try !resolve(environment: variable).databaseURLIsFlag)
        #expect(try !resolve(file: "database_url: postgresql:///c").databaseURLIsFlag)
        #expect(try !resolve().databaseURLIsFlag)
    }

    @Test func aProblemShowsNothingOfASecret() {
        let secret = "postgresql://ada:s3cret@box/db"
        #expect(
            problems(["--databse-url=\(secret)"]) == [
                "unknown argument '--databse-url' (did you mean '--database-url'?)"
            ])
        #expect(
            problems(["--test-kinds", "--databse-url", secret]) == [
                "unknown argument '--databse-url' (did you mean '--database-url'?)",
                "argument 3 is not a setting: settings are given as --name VALUE",
            ])
        let tooLong = secret + String(repeating: "x", count: 4096)
        let problem = "the value is invalid: must be text of 1 to 4096 bytes"
        #expect(problems(["--database-url", tooLong]) == ["--database-url: \(problem)"])
        #expect(
            problems(environment: ["SIGNALBOX_DATABASE_URL": tooLong]) == [
                "SIGNALBOX_DATABASE_URL: \(problem)"
            ]
        )
    }

    @Test func theHelpNamesEverySetting() {
        let help = ServerSettings.help
        for setting in ServerSettings.table.all {
            let value = setting.placeholder.map { " " + $0 } ?? ""
            #expect(help.contains("\n  --\(setting.name)\(value)\n"))
        }
        // exact: the names are our own
        #expect(Set(ServerSettings.table.all.map(\.name)).count == ServerSettings.table.all.count)
    }

    @Test func theHelpNamesEveryKeyOfTheFile() {
        let help = ServerSettings.help.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        #expect(help.contains(" queues: {NAME: {user_limit: NUMBER}} The user limit"))
        #expect(
            help.contains(
                " commands: [{kind: NAME, command: [FILE, ARGUMENT, …], timeout: DURATION, …}] Exec"))
        #expect(
            help.contains(
                " auth: {certificates: [{san: dns:NAME|uri:URI|email:ADDRESS, scopes: [SCOPE, …], …}]} The"))
        for key in CommandKey.further.split(separator: ", ") + CertificateKey.further.split(separator: ", ") {
            #expect(help.contains(key))
        }
        #expect(
            CommandKey.required == "kind, command and timeout" && CertificateKey.required == "san and scopes")
    }
}
