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
    package static let positionsMax = 10_000
    /// Final jobs among those: the change log may bring an end again soon after it.
    package static let finalPositionsMax = 4096
    /// Jobs whose unsent progress is kept.
    package static let progressMax = 1000
    /// Jobs that one read of missing events asks for.
    package static let readJobsMax = 64
    package static let logLinesMax = 256
    /// Bytes of text in the log lines of one message. At least one line is sent, which has 4 KiB at most.
    package static let logBytesAtOnce = 16 * 1024

    /// The driver's next action.
    package enum Action: Sendable, Equatable {
        case send(WatchUpdate)
        case sendLog(JobID, [LogLine])
        /// Read the events of these jobs after their sequences, and call `caughtUp`.
        case read([JobID: Int64])
        case wait
        /// Every watched job is final or removed, and its last event is sent.
        case end
        /// A user's or queue's watch whose reader is too slow: end it, the client starts again.
        case overflow
    }

    /// The progress of the watch in the events and log of one job.
    private struct Position: Sendable {
        /// The last event that was sent or is in `events`.
        var delivered: Int64
        /// The last event that is known to exist.
        var known: Int64
        /// The time of the latest progress received, by which it is recognized when it is published again.
        var progressAt: Timestamp?
        /// Whether the job is final after `delivered`, or removed.
        var isFinal: Bool
        var isRemoved = false
        var isBehind: Bool { known > delivered }
    }

    private var positions: SmallMap<JobID, Position> = .empty
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
    private var events: Deque<WatchUpdate> = []
    private var logLines: [JobID: [LogLine]] = [:]
    private var progress: SmallMap<JobID, WatchUpdate> = .empty

    package init(namesJobs: Bool) {
        self.namesJobs = namesJobs
    }

    /// Adds a job, whose events up to `sequence` the client has, from its snapshot or from before.
    package mutating func track(_ job: JobID, delivered sequence: Int64, isFinal: Bool) {
        if !namesJobs {
            guard positions[job] != nil || positions.count < Self.positionsMax else { return }
            // The snapshot includes these events.
            if positions[job] != nil { events.removeAll { $0.job == job && $0.sequence <= sequence } }
        }
        if let position = positions[job], position.delivered >= sequence { return }
        if isFinal { progress[job] = nil }
        let known = max(positions[job]?.known ?? takeEarly(job), sequence)
        setPosition(job, Position(delivered: sequence, known: known, isFinal: isFinal))
        if namesJobs, known > sequence || isRechecked { behind.insert(job) }
    }

    /// Adds a named job that does not exist, which the client knows.
    package mutating func track(removed job: JobID) {
        setPosition(job, Position(delivered: 0, known: 0, isFinal: true, isRemoved: true))
        _ = takeEarly(job)
    }

    /// The part of each named job that the client has received.
    ///
    /// - Parameters:
    ///   - numbers: those of the jobs in the database. A job without one does not exist.
    ///   - lastLogLine: the last line of a job that was received.
    package func places(
        numbers: [JobID: Int64], lastLogLine: (JobID) -> Int64
    ) -> [JobID: JobPlace] {
        var unsent: [JobID: WatchUpdate] = [:]
        for update in events where unsent[update.job] == nil { unsent[update.job] = update }
        var places: [JobID: JobPlace] = [:]
        for job in positions.keys {
            guard let position = positions[job] else { continue }
            let next = unsent[job]
            guard let number = numbers[job], !position.isRemoved || next != nil else {
                places[job] = .removed
                continue
            }
            // The next update may also be the job's removal, which has no sequence.
            let sequence = next.map { $0.sequence - 1 }.flatMap { $0 >= 0 ? $0 : nil } ?? position.delivered
            let logLine = logLines[job]?.first.map { $0.number - 1 } ?? lastLogLine(job)
            places[job] = .sent(number: number, sequence: sequence, logLine: logLine)
        }
        return places
    }

    /// Whether all that was received was sent, but for progress.
    package var hasSentAll: Bool {
        events.isEmpty && behind.isEmpty && inFlight.isEmpty && logLines.isEmpty && !hasOverflowed
    }

    /// Takes an event that was committed, or progress.
    ///
    /// An event that is delivered already is ignored: the snapshot and the change log are expected to overlap. An event
    /// that comes before its job is tracked is noted, and read then.
    ///
    /// - Returns: false for progress that may be dropped, because the state or events of its job are still to be read. It
    ///   has to be received again once it is saved.
    @discardableResult
    package mutating func receive(_ update: WatchUpdate) -> Bool {
        guard update.sequence > 0, case .event(let event) = update.content else {
            return receive(progress: update)
        }
        receive(event, update)
        return true
    }

    private mutating func receive(_ event: JobEvent, _ update: WatchUpdate) {
        guard var position = positions[event.jobID] else {
            if namesJobs {
                noteEarly(event.jobID, event.sequence)
            } else if event.sequence > 1, event.type != .retried, positions.count < Self.positionsMax {
                // The job was enqueued by another node, and that event has not been delivered yet.
                setPosition(event.jobID, Position(delivered: 0, known: event.sequence, isFinal: false))
                behind.insert(event.jobID)
            } else {
                append(event, update)
            }
            return
        }
        guard event.sequence > position.known else { return }
        position.known = event.sequence
        positions[event.jobID] = position
        if event.sequence == position.delivered + 1, !behind.contains(event.jobID),
            !namesJobs || events.count < Self.eventsMax
        {
            append(event, update)
        } else {
            behind.insert(event.jobID)
        }
    }

    private mutating func receive(progress update: WatchUpdate) -> Bool {
        let job = update.job
        // Events that are still to be read may end the attempt, which drops its progress.
        var isKept = behind.isEmpty && inFlight.isEmpty
        if var position = positions[job] {
            guard !position.isFinal, position.progressAt.map({ $0 < update.at }) ?? true else {
                return isKept
            }
            position.progressAt = update.at
            positions[job] = position
        } else if namesJobs {
            isKept = false
        } else {
            return false
        }
        guard progress.count < Self.progressMax || progress[job] != nil else { return false }
        progress[job] = update
        return isKept
    }

    /// Forgets lines that the beginning of the watch sends.
    package mutating func dropLog(of job: JobID, upTo number: Int64) {
        logLines[job]?.removeAll { $0.number <= number }
        if logLines[job]?.isEmpty == true { logLines[job] = nil }
    }

    package mutating func receive(log lines: [LogLine], of job: JobID) {
        let waiting = logLines.values.reduce(0) { $0 + $1.count }
        guard positions[job] != nil, waiting + lines.count <= Self.logLinesMax else { return }
        logLines[job, default: []] += lines
    }

    /// There may be events of a job up to `sequence`, which have to be read from the database.
    package mutating func noteEvents(of job: JobID, upTo sequence: Int64) {
        guard var position = positions[job] else { return noteEarly(job, sequence) }
        guard sequence > position.known else { return }
        position.known = sequence
        positions[job] = position
        behind.insert(job)
    }

    private mutating func noteEarly(_ job: JobID, _ sequence: Int64) {
        guard !namesJobs else {
            early[job] = max(early[job] ?? 0, sequence)
            return
        }
        guard positions.count < Self.positionsMax else {
            hasOverflowed = true
            return
        }
        setPosition(job, Position(delivered: 0, known: sequence, isFinal: false))
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
        behind.formUnion(positions.keys { !$0.isFinal || $0.isBehind })
    }

    /// Takes the events that `read` asked for: all events of each job after its sequence, or at least the first of them.
    /// Those of `removed` do not exist any more.
    package mutating func caughtUp(_ read: [JobID: [JobEvent]], removed: Set<JobID> = []) {
        let asked = inFlight
        inFlight = [:]
        for (job, list) in read {
            guard positions[job] != nil else { continue }
            for event in list where event.sequence == (positions[job]?.delivered ?? 0) + 1 {
                append(event, WatchUpdate(event))
            }
            guard var position = positions[job] else { continue }
            // The events that were known when the read began do not exist.
            if list.isEmpty, position.known == asked[job], !behind.contains(job) {
                position.known = position.delivered
            }
            positions[job] = position
            if position.isBehind { behind.insert(job) }
        }
        if namesJobs { for job in removed where positions[job]?.isRemoved == false { remove(job) } }
    }

    private mutating func remove(_ job: JobID) {
        guard let position = positions[job] else { return }
        events.append(WatchUpdate(removed: job))
        progress[job] = nil
        logLines[job] = nil
        behind.remove(job)
        setPosition(
            job,
            Position(
                delivered: position.delivered, known: position.delivered, isFinal: true, isRemoved: true))
    }

    /// Whether `next` has anything but `wait`.
    package var hasNext: Bool {
        if !events.isEmpty || hasOverflowed { return true }
        if !inFlight.isEmpty { return false }
        return !behind.isEmpty || !progress.isEmpty || !logLines.isEmpty || namesJobs && openJobs == 0
    }

    package mutating func next() -> Action {
        if let update = events.popFirst() {
            if events.isEmpty { events = [] }
            return .send(update)
        }
        if hasOverflowed { return .overflow }
        if !inFlight.isEmpty { return .wait }
        if !behind.isEmpty {
            let jobs = Array(behind.prefix(Self.readJobsMax))
            behind.subtract(jobs)
            if behind.isEmpty { behind = [] }
            inFlight = Dictionary(uniqueKeysWithValues: jobs.map { ($0, positions[$0]?.known ?? 0) })
            return .read(
                Dictionary(uniqueKeysWithValues: jobs.map { ($0, positions[$0]?.delivered ?? 0) }))
        }
        if let update = progress.popFirst() { return .send(update) }
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

    private mutating func append(_ event: JobEvent, _ update: WatchUpdate) {
        if !namesJobs, events.count >= Self.scopeEventsMax {
            hasOverflowed = true
            return
        }
        events.append(update)
        // The progress of an attempt is of no use after its end.
        if event.state != .running { progress[event.jobID] = nil }
        if namesJobs || positions[event.jobID] != nil || positions.count < Self.positionsMax {
            let known = max(positions[event.jobID]?.known ?? 0, event.sequence)
            setPosition(
                event.jobID,
                Position(delivered: event.sequence, known: known, isFinal: event.state.isFinal))
        }
        // The next attempt may run on a machine whose clock is behind.
        if event.type == .started { positions[event.jobID]?.progressAt = nil }
    }

    /// Sets the position of a job, and keeps the time of its progress.
    private mutating func setPosition(_ job: JobID, _ position: Position) {
        if let old = positions[job], !old.isFinal { openJobs -= 1 }
        if !position.isFinal { openJobs += 1 }
        var position = position
        position.progressAt = positions[job]?.progressAt
        positions[job] = position
        guard position.isFinal, !namesJobs else { return }
        finalJobs.append(job)
        guard finalJobs.count > Self.finalPositionsMax, let oldest = finalJobs.popFirst() else { return }
        // It may have been opened again by a Retry, or be about to be.
        if let position = positions[oldest], position.isFinal, !position.isBehind { positions[oldest] = nil }
    }
}
