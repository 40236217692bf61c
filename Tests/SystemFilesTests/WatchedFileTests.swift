import Foundation
import SystemFiles
import Testing

@Suite struct WatchedFileTests {
    private let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "watched-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    private var path: String { folder.appending(path: "file").path }

    private func write(_ text: String) throws {
        try Data(text.utf8).write(to: URL(filePath: path))
    }

    private func watched(bytesMax: Int = 10) -> WatchedFile { WatchedFile(path: path, bytesMax: bytesMax) }

    /// `body` with the file that says `first`, which was read once.
    private func withWatched(_ first: String, _ body: (inout WatchedFile) throws -> Void) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        try write(first)
        var file = watched()
        #expect(file.read() == .changed(Array(first.utf8)))
        try body(&file)
    }

    @Test func newContentsAreAcceptedAtTheSecondPollThatFindsThem() throws {
        try withWatched("one") { file in
            #expect(file.read() == .unchanged)
            try write("two")
            #expect(file.read() == .unchanged)
            #expect(file.read() == .changed(Array("two".utf8)))
            #expect(file.read() == .unchanged)
        }
    }

    @Test func contentsOfOnePollOnlyAreNeverAccepted() throws {
        try withWatched("whole") { file in
            for part in ["", "w", "who", "whole", "", "whole"] {
                try write(part)
                #expect(file.read() == .unchanged)
            }
            #expect(file.read() == .unchanged)
        }
    }

    /// A file that was changed long ago is not read again, so a later change must show in its times.
    @Test func aChangeOfAnOldFileIsSeen() throws {
        try withWatched("one") { file in
            for text in ["two", "six"] {
                try write(text)
                let old = [FileAttributeKey.modificationDate: Date(timeIntervalSince1970: 1_000_000_000)]
                try FileManager.default.setAttributes(old, ofItemAtPath: path)
                #expect(file.read() == .unchanged)
                #expect(file.read() == .changed(Array(text.utf8)))
                #expect(file.read() == .unchanged)
            }
        }
    }

    @Test func aProblemIsReportedUntilTheFileCanBeRead() throws {
        try withWatched("one") { file in
            try FileManager.default.removeItem(atPath: path)
            for _ in 0..<2 {
                #expect(file.read() == .failed("cannot be read: No such file or directory"))
            }
            // The same contents count as new.
            try write("one")
            #expect(file.read() == .unchanged)
            #expect(file.read() == .changed(Array("one".utf8)))
        }
    }

    @Test func aFileOverTheLimitIsAProblem() throws {
        try withWatched("0123456789") { file in
            try write("0123456789a")
            #expect(file.read() == .failed("is larger than 10 bytes"))
        }
    }

    /// A pipe without a writer would block for ever if it were opened for reading in the usual way.
    @Test(.timeLimit(.minutes(1))) func aNamedPipeIsAProblem() {
        defer { try? FileManager.default.removeItem(at: folder) }
        #expect(mkfifo(path, 0o600) == 0)
        var file = watched()
        #expect(file.read() == .failed("is not a file"))
    }

    @Test func aLinkThatPointsElsewhereIsSeen() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        for name in ["one", "two"] {
            try Data(name.utf8).write(to: folder.appending(path: name))
        }
        func link(to name: String) throws {
            try? FileManager.default.removeItem(atPath: path)
            try FileManager.default.createSymbolicLink(
                atPath: path, withDestinationPath: folder.appending(path: name).path)
        }
        try link(to: "one")
        var file = watched()
        #expect(file.read() == .changed(Array("one".utf8)))
        try link(to: "two")
        #expect(file.read() == .unchanged)
        #expect(file.read() == .changed(Array("two".utf8)))
    }
}
