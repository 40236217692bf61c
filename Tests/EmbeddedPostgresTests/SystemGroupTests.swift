import Foundation
import Testing

@testable import EmbeddedPostgres

@Suite struct SystemGroupTests {
    private typealias User = SystemGroup.User
    private typealias Group = SystemGroup.Group

    private let ada = User(name: "ada", userID: 1000, groupID: 1000)
    private let own = Group(name: "ada", groupID: 1000, members: [])

    private func isAlone(_ users: [User], _ groups: [Group]) -> Bool {
        SystemGroup.isAlone(1000, in: 1000, users: users, groups: groups)
    }

    @Test func aGroupOfItsOwn() {
        #expect(isAlone([ada], [own]))
        #expect(isAlone([ada], [Group(name: "ada", groupID: 1000, members: ["ada"])]))
        // A second name of the same user is nobody else.
        let alias = User(name: "lovelace", userID: 1000, groupID: 1000)
        #expect(isAlone([ada, alias], [Group(name: "ada", groupID: 1000, members: ["lovelace"])]))
        // Others, and their groups.
        let bob = User(name: "bob", userID: 1001, groupID: 1001)
        #expect(isAlone([ada, bob], [own, Group(name: "bob", groupID: 1001, members: ["ada", "bob"])]))
        // The primary group need not be the one in question.
        #expect(isAlone([User(name: "ada", userID: 1000, groupID: 100)], [own]))
    }

    @Test func somebodyElseIsInIt() {
        #expect(!isAlone([ada], [Group(name: "ada", groupID: 1000, members: ["ada", "bob"])]))
        // Its primary group makes bob a member, though the group's entry does not name him.
        #expect(!isAlone([ada, User(name: "bob", userID: 1001, groupID: 1000)], [own]))
        // A second entry of the group.
        #expect(!isAlone([ada], [own, Group(name: "staff", groupID: 1000, members: ["bob"])]))
    }

    @Test func aGroupOfAnotherName() {
        #expect(!isAlone([ada], [Group(name: "staff", groupID: 1000, members: [])]))
    }

    @Test func databasesThatDoNotTellAll() {
        #expect(!isAlone([], [own]))
        #expect(!isAlone([ada], []))
    }

    @Test func theSystemsDatabases() throws {
        let roots = try #require(SystemGroup.users { userID, _ in userID == 0 })
        #expect(roots.contains { $0.name == "root" })
        let all = try #require(SystemGroup.users { _, _ in true })
        let (first, group) = try #require(all.first.map { ($0, $0.groupID) })
        #expect(first.name == SystemUser.name(first.userID))
        #expect(SystemGroup.users(entriesMax: all.count, where: { _, _ in true })?.count == all.count)
        #expect(SystemGroup.users(entriesMax: all.count - 1, where: { _, _ in true }) == nil)
        #expect(SystemGroup.groups(group)?.isEmpty == false)
        #expect(SystemGroup.groups(group, entriesMax: 0) == nil)
    }
}
