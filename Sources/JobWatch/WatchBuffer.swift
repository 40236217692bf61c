import DequeModule
package import JobModel

/// The messages that one watch has still to send: pure, bounded, without I/O.
///
/// Lifecycle events of a job leave in order and without gaps. An event that cannot be kept (the buffer is full, or one
/// before it is missing) is not lost: its job is *behind*, and `next` asks for its events to be read from the database.
/// Only the latest progress is kept. So the memory of a watch is bounded by the jobs it names, however slowly its reader
/// reads. Each container is freed when it has become empty, so a watch with nothing to send takes no memory for it.
package struct WatchBuffer: Sendable {
    /// Lifecycle events kept for the reader of named jobs; further ones are read from the database in their time.
    package static let eventsMax = 512
    /// Lifecycle events kept for the reader of a user or a queue; more end the watch.
    package static let scopeEventsMax = 4096
    /// Jobs of a user's or a queue's watch whose position is kept. An event of any other job may be repeated right after
    /// the snapshot.
    package static let placesMax = 10_000
    /// Final jobs among those: the change log may bring an end again soon after it.
    package static let finalPlacesMax = 4096
    /// Jobs whose unsent progress is kept.
    package static let progressMax = 1000
    /// Jobs that one read of missing events asks for.
    package static let readJobsMax = 64
    package static let logLinesMax = 256
    /// Bytes of text in the log lines of one message. At least one line is sent, which has 4 KiB at most.
    package static let logBytesAtOnce = 16 * 1024

    /// The driver's next action.
    package enum Action: Sendable, Equatable {
        case tell(JobNews)
        case sendLog(JobID, [LogLine])
        /// Read the events of these jobs after their sequences, and call `caughtUp`.
        case read([JobID: Int64])
        case wait
        /// Every watched job is final and its last event is sent.
        case end
        /// A user's or queue's watch whose reader is too slow: end it, the client starts again.
        case overflow
    }

    /// How far the watch is with a job.
    private struct Place: Sendable {
        /// The last event that was sent or is in `events`.
        var delivered: Int64
        /// The last event that is known to exist.
        var known: Int64
        /// The time of the latest progress received, by which it is recognized when it is published again.
        var progressAt: Timestamp?
        /// Whether the job is final after `delivered`.
        var isFinal: Bool
        var isBehind: Bool { known > delivered }
    }

    private var places: SmallMap<JobID, Place> = .empty
    /// Ends when all named jobs are final; else it watches a user or a queue.
    private let namesJobs: Bool
    /// `recheck` was called, which applies to jobs that are tracked later too.
    private var isRechecked = false
    private var hasOverflowed = false
    /// The last known events of named jobs whose state has not been read yet.
    private var early: [JobID: Int64] = [:]
    private var openJobs = 0
    /// The final jobs of a user's or a queue's watch, oldest first.
    private var finalJobs: Deque<JobID> = []
    /// Jobs whose events have to be read.
    private var behind: Set<JobID> = []
    /// Jobs whose events are being read, with the event known of each when that began. The answer may lack an event that
    /// has become known meanwhile, so its job is behind once more.
    private var inFlight: [JobID: Int64] = [:]
    private var events: Deque<JobNews> = []
    private var logLines: [JobID: [LogLine]] = [:]
    private var progress: SmallMap<JobID, JobNews> = .empty

    package init(namesJobs: Bool) {
        self.namesJobs = namesJobs
    }

    /// Adds a job, whose events up to `sequence` the client has, from its snapshot or from before.
    package mutating func track(_ job: JobID, delivered sequence: Int64, isFinal: Bool) {
        if !namesJobs {
            guard places[job] != nil || places.count < Self.placesMax else { return }
            // The snapshot includes these events.
            if places[job] != nil { events.removeAll { $0.job == job && $0.sequence <= sequence } }
        }
        if let place = places[job], place.delivered >= sequence { return }
        if isFinal { progress[job] = nil }
        let known = max(places[job]?.known ?? takeEarly(job), sequence)
        setPlace(job, Place(delivered: sequence, known: known, isFinal: isFinal))
        if namesJobs, known > sequence || isRechecked { behind.insert(job) }
    }

    /// Takes an event that was committed, or progress.
    ///
    /// An event that is delivered already is ignored: the snapshot and the change log are expected to overlap. An event
    /// that comes before its job is tracked is noted, and read then.
    ///
    /// - Returns: false for progress that may be dropped, because the state or events of its job are still to be read. It
    ///   has to be received again once it is saved.
    @discardableResult
    package mutating func receive(_ news: JobNews) -> Bool {
        guard news.sequence > 0, case .event(let event) = news.content else { return receive(progress: news) }
        receive(event, news)
        return true
    }

    private mutating func receive(_ event: JobEvent, _ news: JobNews) {
        guard var place = places[event.jobID] else {
            if namesJobs {
                hear(early: event.jobID, event.sequence)
            } else if event.sequence > 1, event.type != .retried, places.count < Self.placesMax {
                // The job was enqueued by another node, and that event has not been delivered yet.
                setPlace(event.jobID, Place(delivered: 0, known: event.sequence, isFinal: false))
                behind.insert(event.jobID)
            } else {
                append(event, news)
            }
            return
        }
        guard event.sequence > place.known else { return }
        place.known = event.sequence
        places[event.jobID] = place
        if event.sequence == place.delivered + 1, !behind.contains(event.jobID),
            !namesJobs || events.count < Self.eventsMax
        {
            append(event, news)
        } else {
            behind.insert(event.jobID)
        }
    }

    private mutating func receive(progress news: JobNews) -> Bool {
        let job = news.job
        // Events that are still to be read may end the attempt, which drops its progress.
        var isSure = behind.isEmpty && inFlight.isEmpty
        if var place = places[job] {
            guard !place.isFinal, place.progressAt.map({ $0 < news.at }) ?? true else { return isSure }
            place.progressAt = news.at
            places[job] = place
        } else if namesJobs {
            isSure = false
        } else {
            return false
        }
        guard progress.count < Self.progressMax || progress[job] != nil else { return false }
        progress[job] = news
        return isSure
    }

    package mutating func receive(log lines: [LogLine], of job: JobID) {
        let waiting = logLines.values.reduce(0) { $0 + $1.count }
        guard places[job] != nil, waiting + lines.count <= Self.logLinesMax else { return }
        logLines[job, default: []] += lines
    }

    /// There may be events of a job up to `sequence`, which have to be read from the database.
    package mutating func heard(of job: JobID, sequence: Int64) {
        guard var place = places[job] else { return hear(early: job, sequence) }
        guard sequence > place.known else { return }
        place.known = sequence
        places[job] = place
        behind.insert(job)
    }

    private mutating func hear(early job: JobID, _ sequence: Int64) {
        guard !namesJobs else {
            early[job] = max(early[job] ?? 0, sequence)
            return
        }
        guard places.count < Self.placesMax else {
            hasOverflowed = true
            return
        }
        setPlace(job, Place(delivered: 0, known: sequence, isFinal: false))
        behind.insert(job)
    }

    private mutating func takeEarly(_ job: JobID) -> Int64 {
        defer { if early.isEmpty { early = [:] } }
        return early.removeValue(forKey: job) ?? 0
    }

    /// Events may have been missed: the events of every job are read that is not final, or that has known events after
    /// its end.
    package mutating func recheck() {
        guard namesJobs else { return }
        isRechecked = true
        behind.formUnion(places.keys { !$0.isFinal || $0.isBehind })
    }

    /// Takes the events that `read` asked for: all events of each job after its sequence, or at least the first of them.
    package mutating func caughtUp(_ read: [JobID: [JobEvent]]) {
        let asked = inFlight
        inFlight = [:]
        for (job, list) in read {
            guard places[job] != nil else { continue }
            for event in list where event.sequence == (places[job]?.delivered ?? 0) + 1 {
                append(event, JobNews(event))
            }
            guard var place = places[job] else { continue }
            // The events that were known when the read began do not exist.
            if list.isEmpty, place.known == asked[job], !behind.contains(job) {
                place.known = place.delivered
            }
            places[job] = place
            if place.isBehind { behind.insert(job) }
        }
    }

    /// Whether `next` has anything but `wait`.
    package var hasNext: Bool {
        if !events.isEmpty || hasOverflowed { return true }
        if !inFlight.isEmpty { return false }
        return !behind.isEmpty || !progress.isEmpty || !logLines.isEmpty || namesJobs && openJobs == 0
    }

    package mutating func next() -> Action {
        if let news = events.popFirst() {
            if events.isEmpty { events = [] }
            return .tell(news)
        }
        if hasOverflowed { return .overflow }
        if !inFlight.isEmpty { return .wait }
        if !behind.isEmpty {
            let jobs = Array(behind.prefix(Self.readJobsMax))
            behind.subtract(jobs)
            if behind.isEmpty { behind = [] }
            inFlight = Dictionary(uniqueKeysWithValues: jobs.map { ($0, places[$0]?.known ?? 0) })
            return .read(
                Dictionary(uniqueKeysWithValues: jobs.map { ($0, places[$0]?.delivered ?? 0) }))
        }
        if let news = progress.popFirst() { return .tell(news) }
        if let (job, lines) = logLines.first {
            let sent = Self.sentAtOnce(lines)
            let rest = Array(lines[sent.endIndex...])
            logLines[job] = rest.isEmpty ? nil : rest
            if logLines.isEmpty { logLines = [:] }
            return .sendLog(job, Array(sent))
        }
        return namesJobs && openJobs == 0 ? .end : .wait
    }

    private static func sentAtOnce(_ lines: [LogLine]) -> ArraySlice<LogLine> {
        var bytes = 0
        return lines.prefix { line in
            defer { bytes += line.message.utf8.count }
            return bytes == 0 || bytes + line.message.utf8.count <= logBytesAtOnce
        }
    }

    private mutating func append(_ event: JobEvent, _ news: JobNews) {
        if !namesJobs, events.count >= Self.scopeEventsMax {
            hasOverflowed = true
            return
        }
        events.append(news)
        // The progress of an attempt is of no use after its end.
        if event.type != .started { progress[event.jobID] = nil }
        if namesJobs || places[event.jobID] != nil || places.count < Self.placesMax {
            let known = max(places[event.jobID]?.known ?? 0, event.sequence)
            setPlace(
                event.jobID,
                Place(delivered: event.sequence, known: known, isFinal: event.state.isFinal))
        }
        // The next attempt may run on a machine whose clock is behind.
        if event.type == .started { places[event.jobID]?.progressAt = nil }
    }

    /// Sets the position of a job, and keeps the time of its progress.
    private mutating func setPlace(_ job: JobID, _ place: Place) {
        if let old = places[job], !old.isFinal { openJobs -= 1 }
        if !place.isFinal { openJobs += 1 }
        var place = place
        place.progressAt = places[job]?.progressAt
        places[job] = place
        guard place.isFinal, !namesJobs else { return }
        finalJobs.append(job)
        guard finalJobs.count > Self.finalPlacesMax, let oldest = finalJobs.popFirst() else { return }
        // It may have been opened again by a Retry, or be about to be.
        if let place = places[oldest], place.isFinal, !place.isBehind { places[oldest] = nil }
    }
}
