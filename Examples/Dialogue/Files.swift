import Crypto
import Foundation
import NIOPosix

/// File operations, off the cooperative pool and with bounded memory.
enum Files {
    private static let chunkBytes = 1 << 20

    static func exists(_ path: String) async throws -> Bool {
        try await NIOThreadPool.singleton.runIfActive { FileManager.default.fileExists(atPath: path) }
    }

    static func createFolder(_ path: String) async throws {
        try await NIOThreadPool.singleton.runIfActive {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
    }

    static func write(_ text: String, to path: String) async throws {
        try await NIOThreadPool.singleton.runIfActive { try Data(text.utf8).write(to: URL(filePath: path)) }
    }

    /// Renames a file. An existing file at `path` is replaced atomically.
    static func rename(_ from: String, to path: String) async throws {
        try await NIOThreadPool.singleton.runIfActive {
            guard Foundation.rename(from, path) == 0 else {
                throw DialogueError.retryable("cannot rename \(from) to \(path): errno \(errno)")
            }
        }
    }

    static func remove(_ paths: String...) async throws {
        try await NIOThreadPool.singleton.runIfActive {
            for path in paths where FileManager.default.fileExists(atPath: path) {
                try FileManager.default.removeItem(atPath: path)
            }
        }
    }

    /// Removes the entries of a folder that were last changed before `date`. A missing folder is no error.
    static func removeEntries(of folder: String, changedBefore date: Date) async throws {
        try await NIOThreadPool.singleton.runIfActive {
            let files = FileManager.default
            guard files.fileExists(atPath: folder) else { return }
            for name in try files.contentsOfDirectory(atPath: folder) {
                let path = "\(folder)/\(name)"
                let changed = try files.attributesOfItem(atPath: path)[.modificationDate] as? Date
                if let changed, changed < date { try files.removeItem(atPath: path) }
            }
        }
    }

    /// The size of a file in bytes, and its SHA-256 in hexadecimal digits.
    static func digest(_ path: String) async throws -> (bytes: Int, sha256: String) {
        try await NIOThreadPool.singleton.runIfActive {
            let file = try FileHandle(forReadingFrom: URL(filePath: path))
            defer { try? file.close() }
            var hash = SHA256()
            var bytes = 0
            while let chunk = try file.read(upToCount: chunkBytes), !chunk.isEmpty {
                hash.update(data: chunk)
                bytes += chunk.count
            }
            let digits = hash.finalize().map { byte in
                let text = String(byte, radix: 16)
                return byte < 16 ? "0" + text : text
            }
            return (bytes, digits.joined())
        }
    }

    /// Writes the samples of `waves` one after the other, with silence between them, and returns the number of
    /// samples of each.
    static func join(_ waves: [String], silenceSamples: Int, into path: String) async throws -> [Int] {
        try await NIOThreadPool.singleton.runIfActive {
            guard FileManager.default.createFile(atPath: path, contents: nil) else {
                throw DialogueError.retryable("cannot write \(path)")
            }
            let target = try FileHandle(forWritingTo: URL(filePath: path))
            defer { try? target.close() }
            var counts: [Int] = []
            for (index, wave) in waves.enumerated() {
                if index > 0 {
                    try target.write(contentsOf: Data(count: silenceSamples * WaveFile.sampleBytes))
                }
                let source = try FileHandle(forReadingFrom: URL(filePath: wave))
                defer { try? source.close() }
                try WaveFile.skipHeader(of: source, named: wave)
                var bytes = 0
                while let chunk = try source.read(upToCount: chunkBytes), !chunk.isEmpty {
                    try target.write(contentsOf: chunk)
                    bytes += chunk.count
                }
                counts.append(bytes / WaveFile.sampleBytes)
            }
            return counts
        }
    }
}

/// The WAV files of the work folder: one channel of 16-bit samples after a header of 44 bytes, as ffmpeg
/// writes them with `-bitexact`.
enum WaveFile {
    static let rate = 24_000
    static let sampleBytes = 2
    static let headerBytes = 44

    static func skipHeader(of file: FileHandle, named name: String) throws {
        let header = try file.read(upToCount: headerBytes) ?? Data()
        guard header.count == headerBytes, header.prefix(4) == Data("RIFF".utf8),
            header.suffix(8).prefix(4) == Data("data".utf8)
        else {
            throw DialogueError.retryable("\(name) is not the WAV file that was written")
        }
    }

    static func milliseconds(ofSamples samples: Int) -> Int {
        samples * 1000 / rate
    }
}
