import CPQ
package import Logging

/// One connection to a server, used by one thread at a time; its calls block. Owns a `PGconn`.
///
/// Every wait ends at a deadline: `deadline` when it is set, else `Configuration.timeout` after the call. When
/// it passes, or the connection breaks, the socket is closed and `isBroken` stays true; the server notices a
/// closed client only when it next writes, so long statements also want a `statement_timeout`.
@safe package final class Connection {
    package struct Configuration: Sendable {
        /// A connection URI or `key=value` string, as libpq takes it (libpq manual, 34.1.1). What it leaves out
        /// comes from the `PG…` environment variables and libpq's defaults.
        package var connectionString: String
        /// Counts as the variable PGPASSWORD would: where the string has none. Nil: libpq looks for that variable.
        package var password: String?
        package var applicationName: String
        /// Set with `set_config` after connecting, because a transaction-mode pooler refuses startup options:
        /// `search_path`, `statement_timeout`, `idle_in_transaction_session_timeout`, …
        package var sessionSettings: [String: String]
        /// Run after the settings, in the same round trip; what they return is thrown away.
        package var sessionStatements: [Statement]
        package var connectTimeout: Duration
        /// How long one call waits when no `deadline` is set.
        package var timeout: Duration
        package var logger: Logger

        package init(
            connectionString: String, password: String? = nil, applicationName: String,
            sessionSettings: [String: String] = [:], sessionStatements: [Statement] = [],
            connectTimeout: Duration = .seconds(5), timeout: Duration = .seconds(30), logger: Logger
        ) {
            self.connectionString = connectionString
            self.password = password
            self.applicationName = applicationName
            self.sessionSettings = sessionSettings
            self.sessionStatements = sessionStatements
            self.connectTimeout = connectTimeout
            self.timeout = timeout
            self.logger = logger
        }
    }

    package let configuration: Configuration
    /// When set, every wait of every call ends here.
    package var deadline: ContinuousClock.Instant?
    /// `nil` once the connection is broken.
    private(set) var handle: OpaquePointer?
    /// libpq keeps its address; it outlives `handle`.
    private let notices: NoticeSink
    var prepared = PreparedStatements()
    /// For other threads, to stop what this connection runs.
    let canceller: Canceller?

    /// Connects, waiting at most `connectTimeout`, except that looking up a host name blocks as long as the
    /// system's resolver does.
    package init(_ configuration: Configuration) throws(PostgresError) {
        self.configuration = configuration
        self.notices = NoticeSink(configuration.logger)
        let handle = unsafe try Self.connect(configuration)
        unsafe self.handle = unsafe handle
        self.canceller = unsafe Canceller(handle)
        unsafe PQsetNoticeReceiver(
            handle, { unsafe NoticeSink.receive($0, $1) }, Unmanaged.passUnretained(notices).toOpaque())
        unsafe PQsetnonblocking(handle, 1)
        unsafe PQenterPipelineMode(handle)
        try applySessionSettings()
    }

    deinit {
        unsafe PQfinish(handle)
    }

    package var isBroken: Bool { unsafe handle == nil }

    /// Whether the server says that a transaction is open, failed or not.
    package var isInTransaction: Bool {
        guard let handle = unsafe handle else { return false }
        return unsafe PQtransactionStatus(handle) != PQTRANS_IDLE
    }

    /// The server's process for this connection; what `pg_terminate_backend` takes.
    // used by tests, which end connections by it
    package var backendProcessID: Int32 { unsafe handle.map { unsafe PQbackendPID($0) } ?? 0 }

    /// Closes at once. Any open transaction is rolled back by the server.
    package func close() {
        unsafe PQfinish(handle)
        unsafe handle = nil
    }

    /// Reads what arrived while nobody waited, without blocking; a connection that the server closed is found out
    /// here, before anything is sent on it.
    package func checkAlive() -> Bool {
        guard let handle = unsafe handle else { return false }
        let ready = unsafe Poll.wait((PQsocket(handle), Poll.readable), until: .now)
        if !ready.timedOut {
            if unsafe PQconsumeInput(handle) == 0 || PQstatus(handle) == CONNECTION_BAD { close() }
        }
        return !isBroken
    }

    /// Waits until the server says something, or closes, or `waker` wakes, whose wakes it then forgets.
    func waitForInput(orWake waker: Waker, until deadline: ContinuousClock.Instant? = nil) {
        guard let handle = unsafe handle else { return }
        let ready = unsafe Poll.wait(
            (PQsocket(handle), Poll.readable), (waker.descriptor, Poll.readable), until: deadline)
        if ready.second != 0 { waker.drain() }
    }

    // MARK: Connecting

    private static func connect(_ configuration: Configuration) throws(PostgresError) -> OpaquePointer {
        // Later words win, and the connection string is expanded at its place.
        let options = [
            ("tcp_user_timeout", "30000"), ("keepalives_idle", "30"),
            // An empty one is none.
            ("password", configuration.password ?? ""),
            ("dbname", configuration.connectionString),
            ("fallback_application_name", configuration.applicationName), ("client_encoding", "UTF8"),
        ]
        let started = unsafe withCStrings(options.map(\.0)) { keywords in
            unsafe withCStrings(options.map(\.1)) { values in
                unsafe PQconnectStartParams(keywords, values, 1)
            }
        }
        guard let handle = unsafe started else { throw PostgresError(.resources, "out of memory") }
        do throws(PostgresError) {
            let deadline = ContinuousClock.now + configuration.connectTimeout
            var next = PGRES_POLLING_WRITING
            while next != PGRES_POLLING_OK {
                if unsafe next == PGRES_POLLING_FAILED || PQstatus(handle) == CONNECTION_BAD {
                    throw PostgresError(.connection, unsafe lastMessage(handle))
                }
                let events = next == PGRES_POLLING_READING ? Poll.readable : Poll.writable
                if unsafe Poll.wait((PQsocket(handle), events), until: deadline).timedOut {
                    throw PostgresError(.connection, "no answer within \(configuration.connectTimeout)")
                }
                unsafe next = PQconnectPoll(handle)
            }
        } catch {
            unsafe PQfinish(handle)
            throw error
        }
        return unsafe handle
    }

    private func applySessionSettings() throws(PostgresError) {
        // The path may still be one in which others' functions come first.
        let set = Statement(nil, "SELECT pg_catalog.set_config($1, $2, false)")
        let queries =
            configuration.sessionSettings.sorted { $0.key < $1.key }.map { name, value in
                Query(
                    set,
                    Parameters {
                        $0.append(name)
                        $0.append(value)
                    })
            } + configuration.sessionStatements.map { Query($0) }
        guard !queries.isEmpty else { return }
        deadline = .now + configuration.connectTimeout
        defer { deadline = nil }
        _ = try roundTrip(queries)
    }

    // MARK: Waiting

    func deadlineOfThisCall() -> ContinuousClock.Instant {
        deadline ?? .now + configuration.timeout
    }

    /// The handle, or the error that there is none any more.
    func openHandle() throws(PostgresError) -> OpaquePointer {
        guard let handle = unsafe handle else {
            throw PostgresError(.connection, "the connection is closed")
        }
        return unsafe handle
    }

    /// Sends all that libpq has buffered. Reads meanwhile, because a server that cannot write its results stops
    /// reading our parameters.
    func flush(until deadline: ContinuousClock.Instant) throws(PostgresError) {
        let handle = unsafe try openHandle()
        while true {
            let left = unsafe PQflush(handle)
            if left == 0 { return }
            if left < 0 { throw broken() }
            let ready = unsafe Poll.wait(
                (PQsocket(handle), Poll.readable | Poll.writable), until: deadline)
            if ready.timedOut { throw timedOut() }
            if ready.first & Poll.readable != 0, unsafe PQconsumeInput(handle) == 0 { throw broken() }
        }
    }

    /// The next result; `nil` where libpq says that a statement has no more.
    func nextResult(
        of statement: String?, until deadline: ContinuousClock.Instant
    ) throws(PostgresError) -> (status: ExecStatusType, result: QueryResult)? {
        let handle = unsafe try openHandle()
        while unsafe PQisBusy(handle) == 1 {
            if unsafe Poll.wait((PQsocket(handle), Poll.readable), until: deadline).timedOut {
                throw timedOut()
            }
            if unsafe PQconsumeInput(handle) == 0 { throw broken() }
        }
        guard let result = unsafe PQgetResult(handle) else { return nil }
        return unsafe (PQresultStatus(result), QueryResult(owning: result, statement: statement))
    }

    /// Closes, and says why.
    func broken() -> PostgresError {
        let message = unsafe handle.map { unsafe Self.lastMessage($0) } ?? "the connection is closed"
        close()
        return PostgresError(.connection, message)
    }

    private func timedOut() -> PostgresError {
        close()
        return PostgresError(.timeout, "no answer in time; the connection was closed")
    }

    static func lastMessage(_ handle: OpaquePointer) -> String {
        guard let message = unsafe PQerrorMessage(handle) else { return "" }
        var text = unsafe String(cString: message)
        while text.last?.isNewline == true { text.removeLast() }
        return text
    }
}

/// Lends an array of C strings that ends with NULL.
private func withCStrings<R>(
    _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> R
) -> R {
    var bytes: [CChar] = []
    let offsets = strings.map { string in
        let offset = bytes.count
        bytes.append(contentsOf: string.utf8CString)
        return offset
    }
    return unsafe bytes.withUnsafeBufferPointer { bytes in
        var pointers: [UnsafePointer<CChar>?] = unsafe offsets.map {
            unsafe bytes.baseAddress?.advanced(by: $0)
        }
        unsafe pointers.append(nil)
        return unsafe pointers.withUnsafeBufferPointer { unsafe body($0.baseAddress) }
    }
}
