import CPQ
package import Logging

/// One connection to a server, which owns a `PGconn`. It is used by one thread at a time, and its calls block.
///
/// Every wait ends at a deadline: at `deadline` if it is set, else `Configuration.timeout` after the call. When
/// the deadline passes, or the connection breaks, the socket is closed and `isBroken` stays true. The server
/// notices a closed client only when it next writes, so long statements also need a `statement_timeout`.
@safe package final class Connection {
    package struct Configuration: Sendable {
        /// A connection URI or `key=value` string in libpq's format (libpq manual, 34.1.1). Options that it
        /// leaves out are taken from the `PG…` environment variables and libpq's defaults.
        package var connectionString: String
        /// The password if the connection string has none, as the variable PGPASSWORD would give it. If nil,
        /// libpq reads that variable.
        package var password: String?
        package var applicationName: String
        /// Settings of the session, such as `search_path`, `statement_timeout` or
        /// `idle_in_transaction_session_timeout`. They are set with `set_config` after connecting, because a
        /// pooler in transaction mode refuses startup options.
        package var sessionSettings: [String: String]
        /// Statements that are run after the settings, in the same round trip. Their results are discarded.
        package var sessionStatements: [Statement]
        package var connectTimeout: Duration
        /// The timeout of one call when no `deadline` is set.
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
    /// The end of every wait of every call; nil: `Configuration.timeout` after the call.
    package var deadline: ContinuousClock.Instant?
    /// Nil once the connection is broken.
    private(set) var handle: OpaquePointer?
    /// The receiver of notices. libpq keeps its address, so it must outlive `handle`.
    private let notices: NoticeSink
    var prepared = PreparedStatements()
    /// Lets other threads stop the statement that this connection runs.
    let canceller: Canceller?

    /// Connects. It waits at most `connectTimeout`, except for the lookup of a host name, which blocks as long as
    /// the system's resolver does.
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

    /// Whether a transaction is open, failed or not, as the server reported it.
    package var isInTransaction: Bool {
        guard let handle = unsafe handle else { return false }
        return unsafe PQtransactionStatus(handle) != PQTRANS_IDLE
    }

    /// The server's process for this connection, which `pg_terminate_backend` takes.
    // used by tests, which end connections by it
    package var backendProcessID: Int32 { unsafe handle.map { unsafe PQbackendPID($0) } ?? 0 }

    /// Closes the connection at once. The server rolls back an open transaction.
    package func close() {
        unsafe PQfinish(handle)
        unsafe handle = nil
    }

    /// Reads the input that has arrived since the last call, without blocking. A connection that the server has
    /// closed is found here, before a statement is sent on it. Returns whether the connection is usable.
    package func checkAlive() -> Bool {
        guard let handle = unsafe handle else { return false }
        let ready = unsafe Poll.wait((PQsocket(handle), Poll.readable), until: .now)
        if !ready.timedOut {
            if unsafe PQconsumeInput(handle) == 0 || PQstatus(handle) == CONNECTION_BAD { close() }
        }
        return !isBroken
    }

    /// Waits until there is input, the server closes the connection, or `waker` wakes, whose pending wakes are
    /// then cleared.
    func waitForInput(orWake waker: Waker, until deadline: ContinuousClock.Instant? = nil) {
        guard let handle = unsafe handle else { return }
        let ready = unsafe Poll.wait(
            (PQsocket(handle), Poll.readable), (waker.descriptor, Poll.readable), until: deadline)
        if ready.second != 0 { waker.drain() }
    }

    // MARK: Connecting

    private static func connect(_ configuration: Configuration) throws(PostgresError) -> OpaquePointer {
        // The last value of an option wins. The options of the connection string count at the position of
        // `dbname`.
        let options = [
            ("tcp_user_timeout", "30000"), ("keepalives_idle", "30"),
            // An empty password counts as none.
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
        // The search path may still have a schema in which functions of others come first.
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

    /// The handle; throws if the connection is closed.
    func openHandle() throws(PostgresError) -> OpaquePointer {
        guard let handle = unsafe handle else {
            throw PostgresError(.connection, "the connection is closed")
        }
        return unsafe handle
    }

    /// Sends everything that libpq has buffered. It reads at the same time, because a server that cannot write
    /// its results stops reading our parameters.
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

    /// The next result; nil when the statement has no more.
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

    /// Closes the connection, and returns the error with libpq's reason.
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

/// Lends `body` an array of C strings that ends with NULL.
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
