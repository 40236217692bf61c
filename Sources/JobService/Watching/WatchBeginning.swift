import JobModel
import JobStore
import JobWatch

/// The beginning of a watch: the state of its jobs, which is read from the database as the reader pulls it.
package struct WatchBeginning {
    /// A job that the caller has named.
    struct Job {
        /// Where the watch of the job begins.
        enum Start {
            case snapshot
            /// After an event and a log line that the caller has named; 0: with a snapshot, and with the first line.
            case after(Int64, logLine: Int64)
            /// Where the watch goes on that is resumed.
            case place(JobPlace)
        }

        let id: JobID
        /// The job's number in the database. Nil: there is no such job among those of the caller's users.
        let number: Int64?
        let start: Start

        /// The last event that the caller has. Nil: it wants a snapshot.
        var after: Int64? {
            switch start {
            case .snapshot, .after(0, logLine: _): nil
            case .after(let sequence, logLine: _), .place(.sent(_, let sequence, logLine: _)): sequence
            // The job exists once more.
            case .place(.removed): 0
            }
        }

        var logLine: Int64 {
            switch start {
            case .snapshot, .place(.removed): 0
            case .after(_, logLine: let line), .place(.sent(_, _, logLine: let line)): line
            }
        }

        var isKnownAsRemoved: Bool {
            if case .place(.removed) = start { true } else { false }
        }
    }

    /// The next read.
    enum Reading {
        /// The state of named jobs, and then the logs of all of them.
        case jobs(ArraySlice<Job>, of: [Job])
        case logs(ArraySlice<Job>)
        /// The live jobs of a user or a queue: first those of the page that was read last, then the page that begins after
        /// the number `next`; nil: that was the last page.
        case scope(queue: String?, numbers: ArraySlice<Int64>, next: Int64?)
        /// The missed part of the jobs of a user or a queue: their events, and then the progress of those that have
        /// reported any.
        case missed(ArraySlice<MissedChanges.Job>, progress: ArraySlice<Int64>)
        /// The state was read; `snapshotsComplete` is still to be sent.
        case complete
        case nothing
    }

    /// Jobs whose state is read at once. They are kept while the reader takes its time, and a thousand slow readers must not
    /// fill the memory.
    private static let jobsReadAtOnce = 8
    private static let progressReadAtOnce = 500

    private let watch: Watch
    private let store: JobStore
    private let users: UserScope
    private var reading: Reading
    /// For a user or a queue: everything before it is in the items of the beginning. Nil: it is not known.
    private let place: ChangePlace?
    /// The first item. It is given once the first part of the state was read, so that what happens after a client has it
    /// comes as an event, and so that a watch that fails at once has no item.
    private var opened: WatchItem?
    /// The items that were read and not pulled yet, the next one last.
    private var items: [WatchItem] = []

    init(
        _ watch: Watch, store: JobStore, users: UserScope, isResumed: Bool, reading: Reading,
        place: ChangePlace? = nil
    ) {
        self.watch = watch
        self.store = store
        self.users = users
        self.reading = reading
        self.place = place
        opened = .opened(isResumed: isResumed, heartbeatInterval: watch.hub.heartbeatInterval)
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
        if let opened {
            try await read()
            self.opened = nil
            return opened
        }
        while items.isEmpty {
            if case .nothing = reading { return nil }
            try await read()
        }
        return items.popLast()
    }

    /// Does the next read. It may find no items.
    private mutating func read() async throws(ServiceError) {
        switch reading {
        case .jobs(let jobs, let all):
            let rest = jobs.dropFirst(Self.jobsReadAtOnce)
            items = try await state(of: jobs.prefix(Self.jobsReadAtOnce), isOnly: all.count == 1)
                .reversed()
            // A log is read after all jobs are tracked. What is saved before that is read; what is saved after it
            // comes through the subscription.
            reading =
                rest.isEmpty ? .logs(watch.includesLog ? all[...] : []) : .jobs(rest, of: all)
        case .logs(let jobs):
            if let job = jobs.first {
                items = try await log(of: job)
                reading = .logs(jobs.dropFirst())
            } else {
                reading = .complete
            }
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
        case .missed(let jobs, let reported):
            if !jobs.isEmpty {
                items = try await events(of: jobs.prefix(Self.jobsReadAtOnce)).reversed()
                reading = .missed(jobs.dropFirst(Self.jobsReadAtOnce), progress: reported)
            } else if !reported.isEmpty {
                try await receiveProgress(of: reported.prefix(Self.progressReadAtOnce))
                reading = .missed([], progress: reported.dropFirst(Self.progressReadAtOnce))
            } else {
                reading = .complete
            }
        case .complete:
            reading = .nothing
            items = [.snapshotsComplete(resumeToken: watch.resumeToken(at: place))]
        case .nothing: break
        }
    }

    // MARK: Named jobs

    /// Snapshots of the jobs, or the events that the caller has missed. The subscription follows from there on.
    private func state(of jobs: ArraySlice<Job>, isOnly: Bool) async throws(ServiceError) -> [WatchItem] {
        let found = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.jobs(jobs.map(\.id), for: users, resultBytesMax: 0)
        }
        let records = Dictionary(found.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
        var items: [WatchItem] = []
        var sequences: [Int64: Int64] = [:]
        for job in jobs {
            // A job that was removed and added again since the subscription is another one.
            guard let record = records[job.id], record.number == job.number else {
                guard !isOnly else { throw .notFound(job.id) }
                watch.track(removed: job.id)
                if !job.isKnownAsRemoved { items.append(.update(WatchUpdate(removed: job.id))) }
                continue
            }
            if let after = job.after {
                guard after <= record.sequence else {
                    throw .outOfRange(job.id, sequence: record.sequence, after: after)
                }
                sequences[record.number] = after
            } else {
                items.append(.snapshot(record))
                // The last event of a job that is already final is sent too.
                if record.state.isFinal { sequences[record.number] = record.sequence - 1 }
            }
        }
        let events = try await events(after: sequences)
        for job in jobs {
            guard let record = records[job.id], record.number == job.number else { continue }
            // Later ones come through the subscription, which knows the job up to its sequence.
            items += (events[record.number] ?? []).filter {
                $0.jobID == job.id && $0.sequence <= record.sequence
            }.map(item)
            watch.track(
                job.id, delivered: record.sequence, isFinal: record.state.isFinal, logLine: job.logLine)
            if let progress = record.progress, record.state == .running, job.after != nil {
                items.append(.update(WatchUpdate(of: job.id, attempt: record.attempt, progress)))
            }
        }
        return items
    }

    /// The events of each job after a sequence, without gaps: a history that is too long for one read is read on.
    private func events(
        after sequences: [Int64: Int64]
    ) async throws(ServiceError) -> [Int64: [JobEvent]] {
        var events: [Int64: [JobEvent]] = [:]
        var wanted = sequences
        while !wanted.isEmpty {
            let read = try await ServiceError.mapping { [wanted] () async throws(StoreError) in
                try await store.events(after: wanted)
            }
            for (number, after) in wanted {
                var last = after
                for event in read[number] ?? [] where event.sequence == last + 1 {
                    events[number, default: []].append(event)
                    last = event.sequence
                }
                let hasMore = last > after && last < read[number]?.last?.sequence ?? 0
                wanted[number] = hasMore ? last : nil
            }
        }
        return events
    }

    private func item(_ event: JobEvent) -> WatchItem {
        let update = WatchUpdate(event)
        return .update(watch.namesNodes ? update : update.withoutNode())
    }

    private func log(of job: Job) async throws(ServiceError) -> [WatchItem] {
        guard let number = job.number else { return [] }
        let saved = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.logs(of: [WantedLog(number: number, job: job.id, after: job.logLine)])
        }
        guard let lines = saved[number], let last = lines.last else { return [] }
        watch.sendsLog(of: job.id, upTo: last.number)
        return [.log(job.id, lines)]
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
        let found = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.liveJobs(Array(numbers))
        }
        // A number may have become that of another user's job since the page was read.
        let jobs = found.filter { watch.includes(LaneName($0.spec)) }
        for job in jobs { watch.track(job.id, delivered: job.sequence, isFinal: false) }
        return jobs.map { .snapshot($0) }
    }

    // MARK: What was missed of a user or a queue

    /// The events of jobs after those that the client has.
    private func events(of jobs: ArraySlice<MissedChanges.Job>) async throws(ServiceError) -> [WatchItem] {
        let events = try await events(
            after: Dictionary(uniqueKeysWithValues: jobs.map { ($0.number, $0.after) }))
        var items: [WatchItem] = []
        for job in jobs {
            // A job that was removed meanwhile has no events.
            guard let list = events[job.number], let last = list.last,
                watch.includes(LaneName(userID: last.userID, queue: last.queue))
            else { continue }
            items += list.map(item)
            watch.track(last.jobID, delivered: last.sequence, isFinal: last.state.isFinal)
        }
        return items
    }

    private func receiveProgress(of numbers: ArraySlice<Int64>) async throws(ServiceError) {
        let latest = try await ServiceError.mapping { () async throws(StoreError) in
            try await store.progress(of: Array(numbers))
        }
        for latest in latest.values where watch.includes(latest.lane) {
            watch.receive(WatchUpdate(of: latest.job, attempt: latest.attempt, latest.progress))
        }
    }
}
