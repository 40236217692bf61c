import JobModel
package import JobWatch
import SignalboxProto
package import JobStore
import NIOCore
package import GRPC
import Support

/// `signalbox.v1.JobService/Watch`.
///
/// Always in this order: subscribe, read the state, send it, then what the subscription has. What happens
/// in between is in both, and the subscription leaves out what was sent. The response's headers come with the
/// first message: whatever happens after a client has seen them comes as an event.
package struct WatchHandler: Sendable {
    /// Jobs that are read at once. They are kept while a client takes its time to read them: a thousand such clients must
    /// not fill the memory.
    private static let jobsReadAtOnce = 8
    /// A thousand jobs take half of it.
    private static let requestBytesMax = 128 << 10

    let store: JobStore
    let feed: WatchHub
    let quotas: UserQuotas

    package init(store: JobStore, feed: WatchHub, quotas: UserQuotas) {
        self.store = store
        self.feed = feed
        self.quotas = quotas
    }

    package var method: Method {
        Method(
            JobServiceMethod.watch, maxRequestBytes: Self.requestBytesMax,
            .serverStream { bytes, context, writer in
                .work { try await begin(bytes, by: context.caller, writer) }
            })
    }

    private func begin(
        _ bytes: ByteBuffer, by caller: Caller, _ writer: ResponseWriter
    ) async throws -> any ResponseSource {
        let request = try WatchRequest.read(bytes) { request, check in
            check.userID(request.userID, required: false)
            check.name(request.queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
            let isScope = !request.userID.isEmpty || !request.queue.isEmpty
            check.require(isScope || !request.jobs.isEmpty, "jobs", "or user_id or queue is required")
            check.require(
                !isScope || request.jobs.isEmpty, "jobs", "may not be given together with user_id or queue")
            check.require(!isScope || !request.includeLog, "include_log", "is only for named jobs")
        }
        if request.jobs.isEmpty { return try await beginScope(request, by: caller, writer) }
        return try await beginJobs(request, by: caller, writer)
    }

    /// Counts a watch for the users that it is limited to, from here on until it is over.
    private func counted(
        for users: some Sequence<ExactText>, _ begin: () async throws -> Subscription
    ) async throws -> any ResponseSource {
        guard let watch = try quotas.openWatch(of: users) else { return try await begin() }
        do {
            return CountedWatch(try await begin(), watch)
        } catch {
            watch.close()
            throw error
        }
    }

    // MARK: Named jobs

    /// What a watch of named jobs asks for.
    private struct Named: Sendable {
        let users: UserScope
        var jobs: [Job] = []

        struct Job: Sendable {
            let id: JobID
            /// How the database names it.
            let number: Int64
            /// The last event that the client has; 0: it wants a snapshot.
            let after: Int64
        }
    }

    private func beginJobs(
        _ request: WatchRequest, by caller: Caller, _ writer: ResponseWriter
    ) async throws -> any ResponseSource {
        var ids: [JobID] = []
        var after: [JobID: Int64] = [:]
        for (index, watched) in request.jobs.enumerated() {
            let id = try JobServiceHandlers.jobID(watched.jobID, "jobs[\(index)].job_id")
            guard after.updateValue(watched.afterSequence, forKey: id) == nil else {
                throw StatusMapping.invalid([
                    FieldViolation(field: "jobs[\(index)].job_id", description: "is there twice")
                ])
            }
            ids.append(id)
        }
        let places = try await store.places(of: ids, for: caller.users)
        var named = Named(users: caller.users)
        for id in ids {
            guard let place = places[id] else { throw StatusMapping.notFound(id) }
            named.jobs.append(Named.Job(id: id, number: place.number, after: after[id] ?? 0))
        }
        return try await counted(for: places.values.lazy.map(\.userID)) { [named] in
            let subscription = feed.subscribe(
                to: places.mapValues { $0.number }, includesLog: request.includeLog,
                namesNodes: caller.seesNodes)
            do {
                try await sendState(of: named, to: subscription, writer)
            } catch {
                subscription.close()
                throw error
            }
            return subscription
        }
    }

    /// Sends how each job is, or the events that the client has missed, and tells the subscription.
    private func sendState(
        of named: Named, to subscription: Subscription, _ writer: ResponseWriter
    ) async throws {
        var rest = named.jobs[...]
        while !rest.isEmpty {
            let chunk = rest.prefix(Self.jobsReadAtOnce)
            rest = rest.dropFirst(chunk.count)
            try await sendState(of: Array(chunk), for: named.users, to: subscription, writer)
        }
        // Read after all are tracked: what is saved from here on is told, and what was saved before is read.
        // Each may have 800 KiB.
        for job in named.jobs where subscription.includesLog {
            try await writer.write(withPermit: {
                let log = subscription.unsent(
                    try await store.logs(of: [(number: job.number, after: 0)])[job.number] ?? [], of: job.id)
                return log.isEmpty ? nil : WatchResponse.log(job.id, log).encode()
            })
        }
        try await sendHeartbeat(snapshotComplete: true, writer)
    }

    /// Sends the state of some of the jobs.
    private func sendState(
        of jobs: [Named.Job], for users: UserScope, to subscription: Subscription, _ writer: ResponseWriter
    ) async throws {
        let records = Dictionary(
            try await store.jobs(jobs.map(\.id), for: users, resultBytesMax: 0).map { ($0.id, $0) },
            uniquingKeysWith: { $1 })
        var wanted: [(job: Named.Job, record: JobRecord)] = []
        var sequences: [Int64: Int64] = [:]
        for job in jobs {
            guard let record = records[job.id] else { throw StatusMapping.notFound(job.id) }
            guard job.after <= record.sequence else {
                throw Status(
                    .outOfRange, "job \(job.id) is at sequence \(record.sequence), before \(job.after)")
            }
            if job.after == 0 {
                try await writer.write(WatchResponse.snapshot(record).encode())
                // A job that is final already still has its last event told.
                if record.state.isFinal { sequences[job.number] = record.sequence - 1 }
            } else {
                sequences[job.number] = job.after
            }
            if sequences[job.number] != nil { wanted.append((job, record)) }
            subscription.track(job.id, delivered: record.sequence, isFinal: record.state.isFinal)
        }
        let events = try await store.events(after: sequences)
        for (job, record) in wanted {
            // Later ones come through the subscription, which knows the job up to its sequence.
            for event in events[job.number] ?? [] where event.sequence <= record.sequence {
                try await writer.write(
                    WatchResponse(event, namesNode: subscription.namesNodes).encode())
            }
            if let progress = record.progress, record.state == .running, job.after != 0 {
                try await writer.write(
                    WatchResponse.progress(job.id, attempt: record.attempt, progress).encode())
            }
        }
    }

    // MARK: A user or a queue

    private func beginScope(
        _ request: WatchRequest, by caller: Caller, _ writer: ResponseWriter
    ) async throws -> any ResponseSource {
        let queue = request.queue.nonEmpty?.text
        guard let userID = request.userID.nonEmpty else {
            let subscription = {
                feed.subscribe(
                    userID: nil, queue: queue, users: caller.users, namesNodes: caller.seesNodes)
            }
            return try await beginScope(of: caller.users, queue: queue, subscription, writer)
        }
        try caller.check(userID, "user_id")
        let subscription = {
            feed.subscribe(userID: userID, queue: queue, users: .all, namesNodes: caller.seesNodes)
        }
        return try await beginScope(of: .only([userID]), queue: queue, subscription, writer)
    }

    private func beginScope(
        of users: UserScope, queue: String?, _ subscribe: () -> Subscription, _ writer: ResponseWriter
    ) async throws -> any ResponseSource {
        try await counted(for: users.named) {
            let subscription = subscribe()
            do {
                var edge: Int64? = 0
                while let after = edge {
                    let page = try await store.snapshot(of: users, queue: queue, after: after)
                    for start in stride(from: 0, to: page.numbers.count, by: Self.jobsReadAtOnce) {
                        let numbers = page.numbers[
                            start..<min(start + Self.jobsReadAtOnce, page.numbers.count)]
                        // What has ended meanwhile comes as an event.
                        for job in try await store.liveJobs(Array(numbers)) {
                            try await writer.write(WatchResponse.snapshot(job).encode())
                            subscription.track(job.id, delivered: job.sequence, isFinal: false)
                        }
                    }
                    edge = page.next
                }
                try await sendHeartbeat(snapshotComplete: true, writer)
            } catch {
                subscription.close()
                throw error
            }
            return subscription
        }
    }

    private func sendHeartbeat(snapshotComplete: Bool, _ writer: ResponseWriter) async throws {
        try await writer.write(
            WatchResponse.heartbeat(at: .now, snapshotComplete: snapshotComplete).encode())
    }
}

extension UserScope {
    /// None where it is all.
    fileprivate var named: Set<ExactText> {
        switch self {
        case .all: []
        case .only(let users): users
        }
    }
}

/// A watch that counts for users. Only where watches are limited: most take no memory for it.
private final class CountedWatch: ResponseSource {
    private let subscription: Subscription
    private let watch: UserQuotas.Watch

    init(_ subscription: Subscription, _ watch: UserQuotas.Watch) {
        self.subscription = subscription
        self.watch = watch
    }

    func next() -> ResponseStep { subscription.next() }

    func onReady(_ wake: @escaping @Sendable () -> Void) { subscription.onReady(wake) }

    func close() {
        subscription.close()
        watch.close()
    }
}
