internal import JobModel
internal import Logging
internal import Synchronization

/// The tokens of the token file, as it was when it was last good.
final class TokenStore: Sendable {
    private struct Known {
        let entry: TokenFile.Entry
        let credential: Credential
        let revocation: Revocation

        init(_ entry: TokenFile.Entry) {
            self.entry = entry
            revocation = Revocation()
            credential = Credential(entry.principal, revocation: revocation)
        }
    }

    private struct File {
        var watched: WatchedFile
        /// The problem that was logged last; nil: there is none.
        var problem: String?
    }

    private let path: String
    private let logger: Logger
    /// Held while the file is read, which may take long.
    private let file: Mutex<File>
    /// Held for one look.
    private let tokens: Mutex<[SHA256Hash: Known]>

    init(path: String, now: Timestamp, logger: Logger) throws(AuthenticationConfigurationError) {
        self.path = path
        self.logger = logger
        var watched = WatchedFile(path: path, bytesMax: TokenFile.bytesMax)
        let reading = watched.read(now: now)
        file = Mutex(File(watched: watched))
        tokens = Mutex([:])
        switch reading {
        case .changed(let bytes): take(try TokenFile.parse(bytes, name: path))
        case .failed(let problem): throw AuthenticationConfigurationError(problems: ["\(path): \(problem)"])
        case .unchanged: break
        }
    }

    /// By its hash: how long this takes says something of the hash only, and nobody can choose a token by what its
    /// hash begins with to learn more.
    func credential(for hash: SHA256Hash) -> Credential? {
        tokens.withLock { $0[hash]?.credential }
    }

    /// Reads the file if it has changed. Blocks.
    func reload(now: Timestamp) {
        file.withLock { file in
            let problem: String?
            switch file.watched.read(now: now) {
            case .unchanged: return
            case .failed(let text): problem = "\(path): \(text)"
            case .changed(let bytes):
                do throws(AuthenticationConfigurationError) {
                    let count = take(try TokenFile.parse(bytes, name: path))
                    logger.info(
                        "the token file was read again", metadata: ["file": "\(path)", "tokens": "\(count)"])
                    problem = nil
                } catch {
                    problem = error.problems.joined(separator: "; ")
                }
            }
            if let problem, problem != file.problem {
                logger.warning(
                    "the token file is bad: what it said before still holds",
                    metadata: ["problem": "\(problem)"])
            }
            file.problem = problem
        }
    }

    /// An entry that is as it was keeps its credential; the credentials of all others are revoked.
    @discardableResult
    private func take(_ entries: [TokenFile.Entry]) -> Int {
        let gone = tokens.withLock { tokens in
            var next: [SHA256Hash: Known] = [:]
            for entry in entries {
                if let known = tokens[entry.hash], known.entry == entry {
                    next[entry.hash] = known
                    tokens[entry.hash] = nil
                } else {
                    next[entry.hash] = Known(entry)
                }
            }
            defer { tokens = next }
            return tokens.values.map(\.revocation)
        }
        for revocation in gone { revocation.revoke() }
        return entries.count
    }
}
