import DequeModule
package import JobModel

/// What one watch still has to send: pure, bounded, without I/O.
///
/// Lifecycle events of a job leave in order and without gaps. An event that cannot be kept (the buffer is
/// full, or one before it is missing) is not lost: its job is *behind*, and `next` asks for its events to
/// be read from the database. Progress is only ever the latest. So the memory of a watch is bounded by
/// the jobs it names, however slowly its reader reads. And one that owes nothing keeps no memory for what it may owe:
/// each container is given up when it has become empty.
package struct WatchBuffer: Sendable {
    /// Lifecycle events kept for the reader of named jobs; the rest is read again when it is wanted.
    package static let eventsMax = 512
    /// Lifecycle events kept for the reader of a user or a queue; more end the watch.
    package static let scopeEventsMax = 4096
    /// Jobs of a user's or a queue's watch whose place is remembered; of others an event may be repeated
    /// right after the snapshot.
    package static let placesMax = 10_000
    /// Of those, final ones: the feed may tell of an end again soon after it.
    package static let finalPlacesMax = 4096
    /// Jobs of which an unsent progress is kept.
    package static let progressMax = 1000
    /// Jobs that one read of missing events asks for.
    package static let readJobsMax = 64
    package static let logLinesMax = 256
    /// Of the text of log lines that are sent as one message: at least one line, which has 4 KiB at most.
    package static let logBytesAtOnce = 16 * 1024

    /// What the driver does next.
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

    private struct Place: Sendable {
        /// The last event that was sent or is in `events`.
        var delivered: Int64
        /// The last event that was heard of.
        var known: Int64
        /// Of the last progress that was heard of: it may be told again when it is saved.
        var progressAt: Timestamp?
        /// As of `delivered`.
        var isFinal: Bool
        var isBehind: Bool { known > delivered }
    }

    private var places: SmallMap<JobID, Place> = .none
    /// Ends when all named jobs are final; else it watches a user or a queue.
    private let namesJobs: Bool
    /// `recheck` was called: it counts for jobs that are tracked later too.
    private var isRechecked = false
    private var hasOverflowed = false
    /// What was heard of named jobs before their state was read.
    private var early: [JobID: Int64] = [:]
    private var openJobs = 0
    /// Of a user's or a queue's watch, oldest first.
    private var finalJobs: Deque<JobID> = []
    /// Their events are to be read.
    private var behind: Set<JobID> = []
    /// Their events are being read, and what was known of each when that began. What is heard of one meanwhile may
    /// be too late for the answer: the job is behind once more.
    private var inFlight: [JobID: Int64] = [:]
    private var events: Deque<JobNews> = []
    private var logLines: [JobID: [LogLine]] = [:]
    private var progress: SmallMap<JobID, JobNews> = .none

    package init(namesJobs: Bool) {
        self.namesJobs = namesJobs
    }

    /// Names a job, known up to `sequence` (as its snapshot, or the client's cursor, says).
    package mutating func track(_ job: JobID, delivered sequence: Int64, isFinal: Bool) {
        if !namesJobs {
            guard places[job] != nil || places.count < Self.placesMax else { return }
            // The snapshot says it already.
            if places[job] != nil { events.removeAll { $0.job == job && $0.sequence <= sequence } }
        }
        if let place = places[job], place.delivered >= sequence { return }
        if isFinal { progress[job] = nil }
        let known = max(places[job]?.known ?? takeEarly(job), sequence)
        setPlace(job, Place(delivered: sequence, known: known, isFinal: isFinal))
        if namesJobs, known > sequence || isRechecked { behind.insert(job) }
    }

    /// An event was committed, or progress said.
    ///
    /// An event that was seen is ignored: an expected race between the snapshot and the feed. One that comes before its
    /// job is tracked is remembered, and read then.
    ///
    /// - Returns: Of progress, false where it may be lost, because its job's state or events are still to be read: it
    ///   is wanted once more when it is saved.
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
                // Another node took it in, and the feed has not told yet.
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
        // Where something is to be read, that may say that an attempt has ended, and what was said is left out then.
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

    /// Something may have happened to a job up to `sequence` that only the database can tell.
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

    /// Nobody knows what was missed: every job that is not final is looked at again, or that is not any more as far
    /// as was heard.
    package mutating func recheck() {
        guard namesJobs else { return }
        isRechecked = true
        behind.formUnion(places.keys { !$0.isFinal || $0.isBehind })
    }

    /// The events that `read` asked for: all that there are of each job after its sequence, or at least
    /// the first of them.
    package mutating func caughtUp(_ read: [JobID: [JobEvent]]) {
        let asked = inFlight
        inFlight = [:]
        for (job, list) in read {
            guard places[job] != nil else { continue }
            for event in list where event.sequence == (places[job]?.delivered ?? 0) + 1 {
                append(event, JobNews(event))
            }
            guard var place = places[job] else { continue }
            // There is nothing of all that was heard of before the question.
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
        // What an attempt said is of no use after its end.
        if event.type != .started { progress[event.jobID] = nil }
        if namesJobs || places[event.jobID] != nil || places.count < Self.placesMax {
            let known = max(places[event.jobID]?.known ?? 0, event.sequence)
            setPlace(
                event.jobID,
                Place(delivered: event.sequence, known: known, isFinal: event.state.isFinal))
        }
        // Another attempt, perhaps on a machine whose clock is behind.
        if event.type == .started { places[event.jobID]?.progressAt = nil }
    }

    /// Keeps when its progress was.
    private mutating func setPlace(_ job: JobID, _ place: Place) {
        if let old = places[job], !old.isFinal { openJobs -= 1 }
        if !place.isFinal { openJobs += 1 }
        var place = place
        place.progressAt = places[job]?.progressAt
        places[job] = place
        guard place.isFinal, !namesJobs else { return }
        finalJobs.append(job)
        guard finalJobs.count > Self.finalPlacesMax, let oldest = finalJobs.popFirst() else { return }
        // Unless a Retry has opened it again, or is about to be read.
        if let place = places[oldest], place.isFinal, !place.isBehind { places[oldest] = nil }
    }
}
