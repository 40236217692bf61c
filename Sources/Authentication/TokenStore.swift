internal import Logging
internal import Synchronization
internal import SystemFiles

/// The tokens of the last valid version of the token file.
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
        /// The problem that was logged last; nil if there is none.
        var problem: String?
    }

    private let path: String
    private let logger: Logger
    /// The lock is held while the file is read, which may take long.
    private let file: Mutex<File>
    /// The tokens by hash. The lock is only held for a lookup or a replacement, never during a read of the
    /// file.
    private let tokens: Mutex<[SHA256Hash: Known]>

    init(path: String, logger: Logger) throws(AuthenticationConfigurationError) {
        self.path = path
        self.logger = logger
        var watched = WatchedFile(path: path, bytesMax: TokenFile.bytesMax)
        let reading = watched.read()
        file = Mutex(File(watched: watched))
        tokens = Mutex([:])
        switch reading {
        case .changed(let bytes): take(try TokenFile.parse(bytes, name: path))
        case .failed(let problem): throw AuthenticationConfigurationError(problems: ["\(path): \(problem)"])
        case .unchanged: break
        }
    }

    /// Finds a credential by the hash of its token. The time that this takes depends on the hash only, and a
    /// caller cannot choose a token by the beginning of its hash to learn more from it.
    func credential(for hash: SHA256Hash) -> Credential? {
        tokens.withLock { $0[hash]?.credential }
    }

    /// Reads the file if it has changed. It blocks.
    func reload() {
        file.withLock { file in
            let problem: String?
            switch file.watched.read() {
            case .unchanged: return
            case .failed(let text): problem = "\(path): \(text)"
            case .changed(let bytes):
                do throws(AuthenticationConfigurationError) {
                    let count = take(try TokenFile.parse(bytes, name: path))
                    logger.info(
                        "the token file was reloaded", metadata: ["file": "\(path)", "tokens": "\(count)"])
                    problem = nil
                } catch {
                    problem = error.problems.joined(separator: "; ")
                }
            }
            if let problem, problem != file.problem {
                logger.warning(
                    "the token file is invalid: the tokens that were read before stay in force",
                    metadata: ["problem": "\(problem)"])
            }
            file.problem = problem
        }
    }

    /// Replaces the entries. An unchanged entry keeps its credential; the credentials of all others are
    /// revoked.
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
