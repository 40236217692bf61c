import GRPC
import JobModel
import SignalboxJobs
import SignalboxProto
import Support

/// One watch over all its connections. For one reader.
actor RemoteWatch {
    private let caller: Caller
    private var session: WatchSession
    private var retry: WatchRetry
    private let mayRetry: Bool
    private let now: @Sendable () -> ContinuousClock.Instant
    private var stream: (connection: Connection, messages: WatchStream)?
    /// The updates of one message that wait for the reader.
    private var updates: ArraySlice<JobUpdate> = []

    init(
        _ watch: JobWatch, _ caller: Caller, now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.caller = caller
        self.now = now
        session = WatchSession(watch)
        let configuration = caller.configuration
        mayRetry = configuration.retry != nil
        let renewsToken = if case .function = configuration.token?.source { true } else { false }
        retry = WatchRetry(
            configuration.retry ?? SignalboxClient.Retry(), patience: configuration.watchPatience,
            renewsToken: renewsToken, now: now())
    }

    /// Nil when every named job is final.
    func next() async throws -> JobUpdate? {
        do {
            return try await nextOfConnections()
        } catch {
            throw SignalboxError.from(error)
        }
    }

    private func nextOfConnections() async throws -> JobUpdate? {
        while true {
            if let update = updates.popFirst() { return update }
            if session.isOver { return nil }
            do {
                try await read()
            } catch var status as Status {
                if status.code == .unavailable, let stream {
                    await caller.connector.giveUpIfClosed(stream.connection)
                }
                stream = nil
                if session.dropToken(refusedBy: status) { status.code = .unavailable }
                // The last event may have come before the connection was lost.
                if session.isOver { return nil }
                guard mayRetry, await !caller.connector.hasEnded,
                    let delay = retry.delay(after: status, now: now())
                else { throw status }
                try await Task.sleep(for: delay)
            }
        }
    }

    /// Reads one message, of a new connection if there is none.
    private func read() async throws {
        if stream == nil { try await connect() }
        guard let stream else { return }
        guard let bytes = try await stream.messages.next() else {
            self.stream = nil
            guard case .jobs = session.subject else {
                throw Status(.unavailable, "the server has ended the watch")
            }
            try await lookUpMissing()
            if !session.isOver { throw Status(.unavailable, "the server has ended the watch") }
            return
        }
        let response = try WatchResponse.decodeAnswer(bytes)
        retry.receives(response.event, now: now())
        add(session.receive(response))
        switch response.event {
        case .opened:
            session.heartbeatInterval.map(stream.messages.expectHeartbeats)
            if session.mustReconnect { throw WatchSession.notResumed }
        case .snapshotsComplete:
            if case .all = session.subject { try await lookUpMissing() }
        default: break
        }
    }

    private func connect() async throws {
        retry.connects()
        let caller = caller
        let (connection, metadata) = try await within(caller.timeout, waitingFor: "a connection and a token")
        {
            (try await caller.connector.connection(), try await caller.metadata())
        }
        do {
            let messages = try await connection.client.serverStreaming(
                JobServiceMethod.watch, session.request().encode(), metadata: metadata)
            stream = (connection, WatchStream(messages))
        } catch let status as Status where status.code == .unavailable {
            await caller.connector.giveUpIfClosed(connection)
            throw status
        }
    }

    private func lookUpMissing() async throws {
        for id in session.unaccounted() {
            let job: JobRecord?
            do {
                let request = GetJobRequest(jobID: "\(id)")
                job = try await caller.call(JobServiceMethod.getJob, request, as: GetJobResponse.self).job
            } catch let status as Status where status.code == .notFound {
                job = nil
            }
            add(session.account(for: id, job))
        }
    }

    private func add(_ message: WatchEvent?) {
        switch message {
        case .snapshot(let job): updates.append(.snapshot(Job(job)))
        case .lifecycle(let event): updates.append(.event(SignalboxJobs.JobEvent(event)))
        case .progress(let id, let attempt, let progress):
            updates.append(.progress(jobID: id.uuid, attempt: attempt, Job.Progress(progress)))
        case .log(let id, let lines): updates.append(.log(jobID: id.uuid, lines.map { Job.LogLine($0) }))
        case .snapshotsComplete: updates.append(.isCurrent)
        case .removed(let id): updates.append(.removed(jobID: id.uuid))
        case .heartbeat, .opened, .other, nil: break
        }
    }
}

extension WatchSession {
    fileprivate init(_ watch: JobWatch) {
        let subject: Subject =
            switch watch.subject {
            case .jobs(let ids): .jobs(ids.map { JobID($0) })
            case .all(let userID, let queue): .all(userID: userID ?? "", queue: queue ?? "")
            }
        let sequences = watch.sequences.map { (JobID($0.key), Int64($0.value)) }
        self.init(
            subject, sequences: Dictionary(uniqueKeysWithValues: sequences), includesLog: watch.includesLog)
    }
}
