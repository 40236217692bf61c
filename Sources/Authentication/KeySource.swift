package import FoundationEssentials
internal import JobModel
internal import Logging
import Support
internal import Synchronization

/// Gets the bytes at an address. It has to end by itself, within seconds, and to stop at 1 MiB.
package typealias KeySetFetch = @Sendable (URL) async throws -> [UInt8]

/// The issuer's keys, from a file or an address; the last good ones while there are no new ones.
final class KeySource: Sendable {
    /// Between two fetches, whatever comes.
    static let fetchPauseMin = Duration.seconds(10)
    /// Tokens that wait for a fetch; those of one source: an eighth. It may take its 5 s, and anybody can invent key ids
    /// meanwhile.
    static let waitersMax = 1_000

    private struct State {
        /// Nil: there never were any.
        var keys: KeySet?
        var machine: StateMachine
        /// The one under way, or the last one.
        var fetch: Task<Void, Never>?
        var waiters = SourcePlaces(countMax: waitersMax)
        /// The problem that was logged last; nil: there is none.
        var problem: String?
    }

    private let location: JWTConfiguration.KeyLocation
    private let fetch: KeySetFetch
    private let logger: Logger
    private let now: @Sendable () -> Timestamp
    private let state: Mutex<State>
    /// Held while the file is read. Nil: an address.
    private let file: Mutex<WatchedFile?>

    /// Reads a file at once; an address may be down when the service starts.
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
        let reading = watched.read(now: now())
        file = Mutex(watched)
        do throws(KeySetError) {
            switch reading {
            case .changed(let bytes): try take(bytes)
            case .failed(let problem): throw KeySetError(problem)
            case .unchanged: break
            }
            guard state.withLock({ $0.keys?.keys.isEmpty == false }) else {
                throw KeySetError("has no key that can be used")
            }
        } catch {
            throw AuthenticationConfigurationError(problems: ["\(path): \(error.problem)"])
        }
    }

    /// Waits for a fetch only where it is needed.
    ///
    /// - Throws: `.unknownKey` for a key that the issuer does not have; `.keySourceUnavailable` for one that could not
    ///   be looked up, also where too many tokens wait for a fetch already; `.keyIDMissing`.
    func key(for id: String?, source: String) async throws(AuthenticationError) -> VerificationKey {
        // No key of a set has such an id. So what is kept of ids is bounded.
        guard id?.utf8.count ?? 0 <= VerificationKey.idBytesMax else { throw .unknownKey }
        let (search, fetch) = try state.withLock { state throws(AuthenticationError) in
            let search = Self.search(id, in: state)
            guard case .missing = search, let fetch = try startFetchAfterMiss(of: id, &state) else {
                return (search, nil as Task<Void, Never>?)
            }
            guard state.waiters.take(for: source) else { throw .keySourceUnavailable }
            return (search, fetch)
        }
        guard let fetch else { return try Self.key(search, refusal: .unknownKey) }
        await fetch.value
        return try state.withLock { state throws(AuthenticationError) in
            state.waiters.giveBack(source)
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

    /// Nil: there is nothing to wait for, since a file is looked at all the time.
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

    /// Fetches the keys if it is time, and waits for it.
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

    /// A task of its own: the call that needed it first may be cancelled, and others wait for it too.
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
                switch file?.read(now: now()) {
                case .changed(let bytes): try take(bytes)
                case .failed(let problem): throw KeySetError(problem)
                case .unchanged, nil: break
                }
            } catch {
                keep(because: error.problem)
            }
        }
    }

    /// One at a time, as there is one file or one fetch.
    private func take(_ json: [UInt8]) throws(KeySetError) {
        var skipped: [String] = []
        let previous = state.withLock { $0.keys }
        let keys = try KeySet(json: json, previous: previous, skipped: &skipped)
        state.withLock { state in
            state.keys = keys
            state.machine.fetched(withdrawn: previous?.idsMissing(in: keys) ?? [])
        }
        // Also by a set without keys: that is how an issuer withdraws its last one.
        previous?.revokeMissing(in: keys)
        if keys.keys.isEmpty { skipped.append("there is no key that can be used") }
        report(skipped.isEmpty ? nil : skipped.joined(separator: "; "), "keys of JWTs are left out")
    }

    private func keep(because problem: String) {
        state.withLock { $0.machine.failed() }
        report(problem, "there are no new keys of JWTs: the last good ones stay")
    }

    /// Once, and again when something else is wrong.
    private func report(_ problem: String?, _ message: Logger.Message) {
        let before = state.withLock { state in
            defer { state.problem = problem }
            return state.problem
        }
        guard problem != before else { return }
        if let problem {
            logger.warning(message, metadata: ["source": "\(location)", "problem": "\(problem)"])
        } else {
            logger.info("the keys of JWTs are good again", metadata: ["source": "\(location)"])
        }
    }
}
