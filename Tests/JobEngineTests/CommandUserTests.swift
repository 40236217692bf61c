import Foundation
import JobEngine
import Testing

@Suite struct CommandUserTests {
    /// What the system's own program says of a user.
    private func id(_ arguments: String...) throws -> String {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["id"] + arguments
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private func groups(_ text: String) -> Set<gid_t> {
        Set(text.split(separator: " ").compactMap { gid_t($0) })
    }

    private func problem(_ user: String, _ group: String? = nil) throws -> String {
        try #require(throws: CommandUserError.self) { try CommandUser.lookUp(user: user, group: group) }
            .description
    }

    @Test(arguments: ["root", "nobody"]) func findsAUserByName(_ name: String) throws {
        let user = try CommandUser.lookUp(user: name, group: nil)
        #expect(user.name == name)
        #expect(try String(user.userID) == id("-u", name))
        #expect(try String(user.groupID) == id("-g", name))
        #expect(try Set(user.supplementaryGroups) == groups(id("-G", name)))
        #expect(user.home.hasPrefix("/"))
    }

    @Test func findsAUserByNumber() throws {
        #expect(
            try CommandUser.lookUp(user: "0", group: nil) == CommandUser.lookUp(user: "root", group: nil))
    }

    /// The user's primary group is none of its groups then, as with initgroups(3).
    @Test func aGroupTakesThePlaceOfThePrimaryOne() throws {
        let user = try CommandUser.lookUp(user: "nobody", group: "54322")
        #expect(user.groupID == 54_322 && user.supplementaryGroups == [54_322])
        #expect(try CommandUser.lookUp(user: "nobody", group: "root").groupID == 0)
    }

    @Test func aNumberWithoutAnEntryWantsAGroup() throws {
        let user = try CommandUser.lookUp(user: "54321", group: "54322")
        #expect(
            user
                == CommandUser(
                    userID: 54_321, groupID: 54_322, supplementaryGroups: [], name: nil, home: "/"))
        #expect(!user.isCurrentUser)
        #expect(
            try problem("54321")
                == "user 54321 has no entry in the system's user database: give its group too")
    }

    /// The largest number means to the system that nothing is to change.
    @Test(arguments: ["no-such-user", "4294967295", "4294967296", "-1", "+1", "1 ", "٣"])
    func unknownUsers(_ name: String) throws {
        #expect(try problem(name, "0") == "there is no user '\(name)'")
    }

    @Test(arguments: ["no-such-group", "4294967295", "-1"]) func unknownGroups(_ name: String) throws {
        #expect(try problem("root", name) == "there is no group '\(name)'")
    }

    @Test func ours() throws {
        #expect(try CommandUser.lookUp(user: String(geteuid()), group: String(getegid())).isCurrentUser)
        #expect(try !CommandUser.lookUp(user: String(geteuid()), group: String(getegid() + 1)).isCurrentUser)
    }
}

@Suite struct CommandEnvironmentTests {
    private let server = [
        "PATH": "/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C", "LC_TIME": "de",
        "TZ": "UTC", "TMPDIR": "/var/tmp", "AWS_SECRET_ACCESS_KEY": "secret", "PGPASSWORD": "secret",
        "SIGNALBOX_DATABASE_URL": "secret", "LD_PRELOAD": "x", "GIVEN": "given", "COLOUR": "blue",
    ]
    private let usual = [
        "PATH": "/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C", "LC_TIME": "de",
        "TZ": "UTC", "TMPDIR": "/var/tmp",
    ]

    @Test func isAnAllowList() {
        #expect(CommandEnvironment.make(server: server) == usual)
        #expect(CommandEnvironment.make(server: [:]) == [:])
    }

    @Test func hasWhatItsSettingsName() {
        let made = CommandEnvironment.make(
            server: server, from: ["GIVEN", "COLOUR", "NOT_THERE"], own: ["COLOUR": "red", "TZ": "CET"])
        #expect(
            made == usual.merging(["GIVEN": "given", "COLOUR": "red", "TZ": "CET"]) { $1 })
    }

    @Test func isThatOfItsUser() {
        let ada = CommandUser(
            userID: 1, groupID: 1, supplementaryGroups: [], name: "ada", home: "/home/ada")
        let made = CommandEnvironment.make(server: server, user: ada)
        #expect(
            made == usual.merging(["HOME": "/home/ada", "USER": "ada", "LOGNAME": "ada"]) { $1 })
        let numbered = CommandUser(userID: 1, groupID: 1, supplementaryGroups: [], name: nil, home: "/")
        let unnamed = CommandEnvironment.make(server: server, user: numbered)
        #expect(unnamed["HOME"] == "/" && unnamed["USER"] == nil && unnamed["LOGNAME"] == nil)
    }
}
