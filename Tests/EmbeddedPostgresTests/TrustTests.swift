import Foundation
import Testing

@testable import EmbeddedPostgres

/// What others could have made, or can write, is refused before anything is done with it.
extension EmbeddedPostgresTests {
    /// Why a start is refused; nil: the checks have been passed, and all that is missing is Postgres.
    private func refusal(_ configuration: EmbeddedPostgres.Configuration) async -> String? {
        var configuration = configuration
        configuration.binDirectory = "/nonexistent"
        do {
            _ = try await EmbeddedPostgres.start(configuration, logger: logger)
        } catch {
            let error = error as? EmbeddedPostgresError
            if error?.code == .binaries { return nil }
            return error?.code == .stateDirectory ? "\(error?.message ?? "")" : "another error"
        }
        return "it was started"
    }

    /// The state directory, made, and what is in it.
    private func withState(
        _ body: (_ state: StateDirectory, _ refusal: () async -> String?) async throws -> Void
    ) async throws {
        try await withDirectory { configuration in
            let state = try StateDirectory(configuration.stateDirectory ?? "")
            try makeFolder(state.path, 0o755)
            try await body(state) { await refusal(configuration) }
        }
    }

    private func makeFolder(_ path: String, _ mode: Int) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        try setMode(path, mode)
    }

    private func setMode(_ path: String, _ mode: Int) throws {
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }

    /// Whom the data and the socket belong to.
    private func give(_ path: String, in state: StateDirectory) throws {
        guard let user = try ServerUser.choose(for: state) else { return }
        #expect(chown(path, user.userID, user.groupID) == 0)
    }

    @Test func whatWeMadePassesTheChecks() async throws {
        try await withDirectory { configuration in
            for _ in 0..<2 { #expect(await refusal(configuration) == nil) }
            let run = try StateDirectory(configuration.stateDirectory ?? "").run
            #expect(try FileStatus.get(run).mode == 0o700)
        }
    }

    @Test(arguments: [0o755, 0o777, 0o1777, 0o710, 0o701])
    func aSocketFolderThatOthersMayEnter(mode: Int) async throws {
        try await withState { state, refusal in
            try makeFolder(state.run, mode)
            try give(state.run, in: state)
            let message = await refusal() ?? ""
            #expect(message.contains(state.run) && message.contains("mode") && message.contains("chmod 700"))
            // It is not mended behind anybody's back, and good once that was done.
            #expect(try FileStatus.get(state.run).mode == mode_t(mode))
            try setMode(state.run, 0o700)
            #expect(await refusal() == nil)
        }
    }

    @Test func aLinkForALock() async throws {
        try await withState { state, refusal in
            let target = state.path + "/precious"
            try Data("kept".utf8).write(to: URL(fileURLWithPath: target))
            try FileManager.default.createSymbolicLink(atPath: state.lock, withDestinationPath: target)
            #expect(await refusal()?.contains("lock is a symbolic link") == true)
            // Another name of the same file is as bad.
            try FileManager.default.removeItem(atPath: state.lock)
            try FileManager.default.linkItem(atPath: target, toPath: state.lock)
            #expect(await refusal()?.contains("has a second name") == true)
            #expect(FileManager.default.contents(atPath: target) == Data("kept".utf8))
            // What would not be opened for as long as nobody else opens it.
            try FileManager.default.removeItem(atPath: state.lock)
            #expect(mkfifo(state.lock, 0o600) == 0)
            #expect(await refusal()?.contains("lock is not a regular file") == true)
        }
    }

    @Test func aLockThatOthersMayWrite() async throws {
        try await withState { state, refusal in
            try Data().write(to: URL(fileURLWithPath: state.lock))
            try setMode(state.lock, 0o666)
            #expect(await refusal()?.contains("lock has mode 0666") == true)
        }
    }

    @Test func linksInTheStateDirectory() async throws {
        try await withState { state, refusal in
            let elsewhere = state.path + "/elsewhere"
            try makeFolder(elsewhere, 0o700)
            try give(elsewhere, in: state)
            for path in [state.run, state.data] {
                try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: elsewhere)
                #expect(await refusal()?.contains("\(path) is a symbolic link") == true)
                try FileManager.default.removeItem(atPath: path)
            }
        }
    }

    @Test func aParentThatOthersMayWrite() async throws {
        try await withState { state, refusal in
            let parent = state.path.dropLast("/state of affairs".count)
            for mode in [0o777, 0o757] {
                try setMode(String(parent), mode)
                let message = await refusal() ?? ""
                #expect(message.hasPrefix("\(parent) has mode") && message.contains("chmod go-w"))
            }
            // A group is others, unless it is the owner's alone.
            try setMode(String(parent), 0o775)
            let group = try FileStatus.get(String(parent)).groupID
            #expect(await refusal() == nil || !SystemGroup.isAlone(geteuid(), in: group))
            if ServerUser.isRoot {
                #expect(chown(String(parent), 0, 12_345) == 0)
                #expect(await refusal()?.hasPrefix("\(parent) has mode 0775") == true)
            }
            // As /tmp: nobody can replace what is ours.
            try setMode(String(parent), 0o1777)
            #expect(await refusal() == nil)
            // The state directory itself has others' files in it then.
            for mode in [0o777, 0o1777] {
                try setMode(state.path, mode)
                #expect(await refusal()?.hasPrefix("\(state.path) has mode") == true)
            }
        }
    }

    @Test func linksOnTheWayAreResolved() async throws {
        try await withState { state, _ in
            let parent = String(state.path.dropLast("/state of affairs".count))
            let link = parent + "/link"
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: state.path)
            let made = try StateDirectory(link + "/new/er").made(isRoot: ServerUser.isRoot)
            #expect(made.path == state.path + "/new/er")
            #expect(try FileStatus.get(made.path).mode == (ServerUser.isRoot ? 0o755 : 0o700))
            // Where the link leads is looked at, and not only where it is.
            try setMode(state.path, 0o777)
            #expect { try StateDirectory(link + "/new/er").made(isRoot: ServerUser.isRoot) } throws: {
                "\($0)".contains("\(state.path) has mode 0777")
            }
            let nowhere = parent + "/nowhere"
            try FileManager.default.createSymbolicLink(atPath: nowhere, withDestinationPath: parent + "/none")
            for path in [nowhere, parent + "/a/../b", "/dev/null/x"] {
                #expect { try StateDirectory(path).made(isRoot: ServerUser.isRoot) } throws: {
                    ($0 as? EmbeddedPostgresError)?.code == .stateDirectory
                }
            }
            #expect(try FileStatus.find(parent + "/none") == nil)
        }
    }

    /// Only root can make such.
    @Test(.enabled(if: ServerUser.isRoot)) func whatIsAnothers() async throws {
        try await withState { state, refusal in
            let parent = String(state.path.dropLast("/state of affairs".count))
            let other: uid_t = 12_345
            try Data().write(to: URL(fileURLWithPath: state.lock))
            for path in [parent, state.path, state.lock] {
                #expect(chown(path, other, 0) == 0)
                let message = await refusal() ?? ""
                #expect(message.hasPrefix("\(path) belongs to 12345"))
                #expect(chown(path, 0, 0) == 0)
            }
            try makeFolder(state.run, 0o700)
            #expect(chown(state.run, other, 0) == 0)
            #expect(await refusal()?.hasPrefix("\(state.run) belongs to 12345, not to postgres") == true)
            // What was just being made when we were stopped.
            #expect(chown(state.run, 0, 0) == 0)
            #expect(await refusal() == nil)
            let server = try #require(try ServerUser.choose(for: state))
            #expect(try FileStatus.get(state.run).userID == server.userID)
        }
    }

    @Test(.enabled(if: ServerUser.isRoot)) func dataOfNobody() async throws {
        try await withState { state, refusal in
            try makeFolder(state.data, 0o700)
            #expect(chown(state.data, 65_534, 65_534) == 0)
            let message = await refusal() ?? ""
            #expect(message.contains("belongs to the user nobody") && message.contains("chown -R postgres:"))
        }
    }
}
