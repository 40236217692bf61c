package import FoundationEssentials
internal import JobModel
internal import Logging
import Support
internal import Synchronization
internal import SystemFiles

/// Fetches the bytes at an address. It must end by itself within seconds, and read at most 1 MiB.
package typealias KeySetFetch = @Sendable (URL) async throws -> [UInt8]

/// The issuer's keys, from a file or an address. If new ones cannot be read, the last valid ones stay in use.
final class KeySource: Sendable {
    /// The shortest time between two fetches.
    static let fetchPauseMin = Duration.seconds(10)
    /// The most tokens that wait for a fetch; one source may have an eighth of them. A fetch may take its 5
    /// s, and anyone can invent key ids in that time.
    static let waitersMax = 1_000

    private struct State {
        /// Nil until keys were read for the first time.
        var keys: KeySet?
        var machine: StateMachine
        /// The fetch that is in flight, or the last one.
        var fetch: Task<Void, Never>?
        var waiters = SourcePermits(countMax: waitersMax)
        /// The problem that was logged last; nil: there is none.
        var problem: String?
    }

    private let location: JWTConfiguration.KeyLocation
    private let fetch: KeySetFetch
    private let logger: Logger
    private let now: @Sendable () -> Timestamp
    private let state: Mutex<State>
    /// The file of the keys; its lock is held while it is read. Nil if the keys are at an address.
    private let file: Mutex<WatchedFile?>

    /// Reads a key file at once. An address is not fetched here, because it may be down when the service
    /// starts.
    init(
        _ configuration: JWTConfiguration, fetch: @escaping KeySetFetch, logger: Logger,
        now: @escaping @Sendable () -> Timestamp
    ) throws(AuthenticationConfigurationError) {
        location = configuration.keys
        self.fetch = fetch
        self.logger = logger
        self.now = now
        let machine = StateMachine(interval: configuration.refreshInterval, pauseMin: Self.fetchPauseMin)
        state = Mutex(State(keys: nil, machine: machine))
        guard case .file(let path) = location else {
            file = Mutex(nil)
            return
        }
        var watched = WatchedFile(path: path, bytesMax: KeySet.bytesMax)
        let reading = watched.read()
        file = Mutex(watched)
        do throws(KeySetError) {
            switch reading {
            case .changed(let bytes): try take(bytes)
            case .failed(let problem): throw KeySetError(problem)
            case .unchanged: break
            }
            guard state.withLock({ $0.keys?.keys.isEmpty == false }) else {
                throw KeySetError("has no usable key")
            }
        } catch {
            throw AuthenticationConfigurationError(problems: ["\(path): \(error.problem)"])
        }
    }

    /// Finds a key, and waits for a fetch only if the key is not known.
    ///
    /// - Throws: `.unknownKey` if the issuer does not have the key; `.keySourceUnavailable` if it could not
    ///   be looked up or if too many tokens wait for a fetch already; `.keyIDMissing`.
    func key(for id: String?, source: String) async throws(AuthenticationError) -> VerificationKey {
        // No key has a longer id. This also bounds the memory for ids.
        guard id?.utf8.count ?? 0 <= VerificationKey.idBytesMax else { throw .unknownKey }
        let (search, fetch) = try state.withLock { state throws(AuthenticationError) in
            let search = Self.search(id, in: state)
            guard case .missing = search, let fetch = try startFetchAfterMiss(of: id, &state) else {
                return (search, nil as Task<Void, Never>?)
            }
            guard state.waiters.acquire(for: source) else { throw .keySourceUnavailable }
            return (search, fetch)
        }
        guard let fetch else { return try Self.key(search, refusal: .unknownKey) }
        await fetch.value
        return try state.withLock { state throws(AuthenticationError) in
            state.waiters.release(source)
            return try Self.key(
                Self.search(id, in: state), refusal: state.machine.refusal(of: id.map(ExactText.init(_:))))
        }
    }

    private static func search(_ id: String?, in state: State) -> KeySet.Search {
        state.keys?.search(id) ?? .missing
    }

    private static func key(
        _ search: KeySet.Search, refusal: AuthenticationError
    ) throws(AuthenticationError) -> VerificationKey {
        switch search {
        case .found(let key): return key
        case .missing: throw refusal
        case .ambiguous: throw .keyIDMissing
        }
    }

    /// The fetch to wait for after a key was not found. Nil if there is none: a file is polled anyway.
    private func startFetchAfterMiss(
        of id: String?, _ state: inout State
    ) throws(AuthenticationError) -> Task<Void, Never>? {
        guard case .address(let url) = location else { return nil }
        switch state.machine.miss(id.map(ExactText.init(_:)), now: now()) {
        case .fetch: return startFetch(of: url, &state)
        case .wait: return state.fetch
        case .refuse(let error): throw error
        }
    }

    /// Fetches the keys if a fetch is due, and waits for its end.
    func refreshIfDue() async {
        guard case .address(let url) = location else { return }
        let fetch = state.withLock { state -> Task<Void, Never>? in
            switch state.machine.tick(now: now()) {
            case .fetch: startFetch(of: url, &state)
            case .nothing: nil
            }
        }
        await fetch?.value
    }

    /// Starts a fetch in a task of its own, because the call that needs it first may be cancelled while
    /// others wait for it.
    private func startFetch(of url: URL, _ state: inout State) -> Task<Void, Never> {
        let task = Task.detached { [self] in
            do {
                try take(try await fetch(url))
            } catch let error as KeySetError {
                keep(because: error.problem)
            } catch {
                keep(because: "cannot be fetched: \(error)")
            }
        }
        state.fetch = task
        return task
    }

    /// Reads the file if it has changed. Blocks.
    func reloadFile() {
        file.withLock { file in
            do throws(KeySetError) {
                switch file?.read() {
                case .changed(let bytes): try take(bytes)
                case .failed(let problem): throw KeySetError(problem)
                case .unchanged, nil: break
                }
            } catch {
                keep(because: error.problem)
            }
        }
    }

    /// Replaces the keys. It is never called twice at once, because there is one file or one fetch.
    private func take(_ json: [UInt8]) throws(KeySetError) {
        var skipped: [String] = []
        let previous = state.withLock { $0.keys }
        let keys = try KeySet(json: json, previous: previous, skipped: &skipped)
        state.withLock { state in
            state.keys = keys
            state.machine.fetched(withdrawn: previous?.idsMissing(in: keys) ?? [])
        }
        // A set without keys revokes too: that is how an issuer withdraws its last key.
        previous?.revokeMissing(in: keys)
        if keys.keys.isEmpty { skipped.append("there is no usable key") }
        report(skipped.isEmpty ? nil : skipped.joined(separator: "; "), "some keys of JWTs were skipped")
    }

    private func keep(because problem: String) {
        state.withLock { $0.machine.failed() }
        report(problem, "the keys of JWTs could not be refreshed: the previous keys stay in use")
    }

    /// Logs a problem when it first occurs and when it changes.
    private func report(_ problem: String?, _ message: Logger.Message) {
        let before = state.withLock { state in
            defer { state.problem = problem }
            return state.problem
        }
        guard problem != before else { return }
        if let problem {
            logger.warning(message, metadata: ["source": "\(location)", "problem": "\(problem)"])
        } else {
            logger.info("the keys of JWTs are valid again", metadata: ["source": "\(location)"])
        }
    }
}
