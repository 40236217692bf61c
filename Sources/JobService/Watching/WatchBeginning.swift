import JobModel
import JobStore
import JobWatch

/// The beginning of a watch: the state of its jobs, which is read from the database as the reader pulls it.
package struct WatchBeginning {
    /// A job that the caller has named.
    struct Job {
        let id: JobID
        /// The job's number in the database.
        let number: Int64
        /// The last event that the caller has; 0: it wants a snapshot.
        let after: Int64
    }

    /// The next read.
    enum Reading {
        /// The state of named jobs, and then the logs of all of them.
        case jobs(ArraySlice<Job>, of: [Job])
        case logs(ArraySlice<Job>)
        /// The live jobs of a user or a queue: first those of the page that was read last, then the page that begins after
        /// the number `next`; nil: that was the last page.
        case scope(queue: String?, numbers: ArraySlice<Int64>, next: Int64?)
        /// Nothing; a heartbeat says that the state is complete.
        case complete
        case nothing
    }

    /// Jobs that are read at once. They are kept while the reader takes its time, and a thousand slow readers must not
    /// fill the memory.
    private static let jobsReadAtOnce = 8

    private let watch: Watch
    private let store: JobStore
    private let users: UserScope
    private var reading: Reading
    /// The items that were read and not pulled yet, the next one last.
    private var items: [WatchItem] = []

    init(_ watch: Watch, store: JobStore, users: UserScope, reading: Reading) {
        self.watch = watch
        self.store = store
        self.users = users
        self.reading = reading
    }

    /// Whether `next` may read the whole log of a job, of up to 800 KiB. A server that reads for many callers bounds how
    /// many do so at a time.
    package var nextMayBeLarge: Bool {
        if case .logs(let jobs) = reading { items.isEmpty && !jobs.isEmpty } else { false }
    }

    /// Ends the watch before it follows.
    package func close() { watch.close() }

    /// The watch, once `next` has returned nil.
    package consuming func follow() -> Watch { watch }

    /// The next item; nil: the state is complete. After an error the watch has to be closed.
    package mutating func next() async throws(ServiceError) -> WatchItem? {
        while true {
            if let item = items.popLast() { return item }
            switch reading {
            case .jobs(let jobs, let all):
                let rest = jobs.dropFirst(Self.jobsReadAtOnce)
                items = try await state(of: jobs.prefix(Self.jobsReadAtOnce)).reversed()
                // A log is read after all jobs are tracked. What is saved before that is read; what is saved after it
                // comes through the subscription.
                reading =
                    rest.isEmpty ? .logs(watch.includesLog ? all[...] : []) : .jobs(rest, of: all)
            case .logs(let jobs):
                guard let job = jobs.first else {
                    reading = .complete
                    continue
                }
                items = try await log(of: job)
                reading = .logs(jobs.dropFirst())
            case .scope(let queue, let numbers, let next):
                let rest = numbers.dropFirst(Self.jobsReadAtOnce)
                if !numbers.isEmpty {
                    items = try await snapshots(of: numbers.prefix(Self.jobsReadAtOnce)).reversed()
                    reading = .scope(queue: queue, numbers: rest, next: next)
                } else if let next {
                    reading = try await page(of: queue, after: next)
                } else {
                    reading = .complete
                }
            case .complete:
                reading = .nothing
                return .snapshotsComplete
            case .nothing: return nil
            }
        }
    }

    // MARK: Named jobs

    /// Snapshots of the jobs, or the events that the caller has missed. The subscription follows from there on.
    private func state(of jobs: ArraySlice<Job>) async throws(ServiceError) -> [WatchItem] {
        let found = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.jobs(jobs.map(\.id), for: users, resultBytesMax: 0)
        }
        let records = Dictionary(found.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
        var items: [WatchItem] = []
        var sequences: [Int64: Int64] = [:]
        for job in jobs {
            guard let record = records[job.id] else { throw .notFound(job.id) }
            guard job.after <= record.sequence else {
                throw .outOfRange(job.id, sequence: record.sequence, after: job.after)
            }
            if job.after == 0 {
                items.append(.snapshot(record))
                // The last event of a job that is already final is sent too.
                if record.state.isFinal { sequences[job.number] = record.sequence - 1 }
            } else {
                sequences[job.number] = job.after
            }
            watch.track(job.id, delivered: record.sequence, isFinal: record.state.isFinal)
        }
        let events = try await ServiceError.mapping { [sequences] () async throws(StoreError) in
            try await store.events(after: sequences)
        }
        for job in jobs {
            guard sequences[job.number] != nil, let record = records[job.id] else { continue }
            // Later ones come through the subscription, which knows the job up to its sequence.
            for event in events[job.number] ?? [] where event.sequence <= record.sequence {
                let update = WatchUpdate(event)
                items.append(.update(watch.namesNodes ? update : update.withoutNode()))
            }
            if let progress = record.progress, record.state == .running, job.after != 0 {
                items.append(.update(WatchUpdate(of: job.id, attempt: record.attempt, progress)))
            }
        }
        return items
    }

    private func log(of job: Job) async throws(ServiceError) -> [WatchItem] {
        let saved = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.logs(of: [(number: job.number, after: 0)])
        }
        let lines = watch.unsent(saved[job.number] ?? [], of: job.id)
        return lines.isEmpty ? [] : [.log(job.id, lines)]
    }

    // MARK: A user or a queue

    private func page(of queue: String?, after number: Int64) async throws(ServiceError) -> Reading {
        let page = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.snapshot(of: users, queue: queue, after: number)
        }
        return .scope(queue: queue, numbers: page.numbers[...], next: page.next)
    }

    /// Snapshots of those jobs that are still live. The others have ended, which comes as an event.
    private func snapshots(of numbers: ArraySlice<Int64>) async throws(ServiceError) -> [WatchItem] {
        let jobs = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.liveJobs(Array(numbers))
        }
        for job in jobs { watch.track(job.id, delivered: job.sequence, isFinal: false) }
        return jobs.map { .snapshot($0) }
    }
}
