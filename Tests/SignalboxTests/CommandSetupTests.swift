import Foundation
import JobEngine
import Settings
import Testing

@testable import Signalbox

@Suite struct CommandSetupTests {
    private func command(_ kind: String, user: String? = nil, group: String? = nil) -> CommandDefinition {
        CommandDefinition(
            KindDefinition(kind: kind, timeout: .seconds(1)), command: ["x"], environment: ["SET": "red"],
            environmentFrom: ["GIVEN"], user: user, group: group)
    }

    @Test func makesRunners() throws {
        let environment = ["PATH": "/usr/bin", "GIVEN": "given", "AWS_SECRET_ACCESS_KEY": "secret"]
        let runners = try CommandSetup.runners(
            [command("a"), command("b", user: String(geteuid()), group: String(getegid()))],
            environment: environment)
        #expect(runners.map(\.definition.kind) == ["a", "b"])
        #expect(runners[0].environment == ["PATH": "/usr/bin", "GIVEN": "given", "SET": "red"])
        #expect(runners[0].user == nil && runners[1].user?.isCurrentUser == true)
        #expect(runners.allSatisfy { $0.setpriv == "/usr/bin/setpriv" })
    }

    @Test func namesEachCommandWhoseUserIsUnknown() throws {
        let error = #expect(throws: SettingsError.self) {
            try CommandSetup.runners(
                [
                    command("a", user: "no-such-user"), command("b"),
                    command("c", user: "root", group: "no-such-group"),
                ],
                environment: [:])
        }
        #expect(
            error?.problems == [
                "commands: 'a': there is no user 'no-such-user'",
                "commands: 'c': there is no group 'no-such-group'",
            ])
    }
}

@Suite struct ProcessSecretsTests {
    /// In a process of its own: what sets the environment must not run beside what reads it.
    @Test func secretVariablesLeaveTheEnvironment() async {
        await #expect(processExitsWith: .success) {
            let secrets = ["SIGNALBOX_DATABASE_URL", "SIGNALBOX_TOKEN", "PGPASSWORD"]
            for name in secrets + ["PGHOST"] { setenv(name, "x", 1) }
            ProcessSecrets.forgetVariables()
            #expect(secrets.allSatisfy { getenv($0) == nil } && getenv("PGHOST") != nil)
        }
    }
}
