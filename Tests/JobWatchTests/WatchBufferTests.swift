import JobModel
import JobWatch
import Support
import Testing

@Suite struct WatchBufferTests {
    static let job = JobID("0190a000-0000-7000-8000-000000000001")!
    static let other = JobID("0190a000-0000-7000-8000-000000000002")!

    static func id(_ number: Int) -> JobID {
        JobID.version7(milliseconds: Int64(number), random: (0, UInt64(number)))
    }

    static func event(
        _ sequence: Int64, _ type: JobEventType = .started, of job: JobID = job
    ) -> JobEvent {
        JobEvent(
            jobID: job, sequence: sequence, type: type, at: Timestamp(microseconds: sequence), attempt: 1,
            kind: "k", userID: "u", queue: "q")
    }

    private func progress(_ fraction: Double, at moment: Int64? = nil) -> Progress {
        Progress(
            stage: "", fraction: fraction, message: "", done: 0, total: 0,
            updatedAt: Timestamp(microseconds: moment ?? Int64(fraction * 100)))
    }

    private func lines(_ numbers: ClosedRange<Int64>) -> [LogLine] {
        numbers.map {
            LogLine(number: $0, at: Timestamp(microseconds: 0), attempt: 1, level: .info, message: "")
        }
    }

    private func watch(from sequence: Int64 = 1) -> WatchBuffer {
        var buffer = WatchBuffer(namesJobs: true)
        buffer.track(Self.job, delivered: sequence, isFinal: false)
        return buffer
    }

    // MARK: Named jobs

    @Test func eventsInOrderUpToTheEnd() {
        var buffer = watch()
        #expect(buffer.next() == .wait)
        buffer.receive(Self.event(2))
        buffer.receive(Self.event(3, .succeeded))
        #expect(buffer.next() == .send(Self.event(2)))
        #expect(buffer.next() == .send(Self.event(3, .succeeded)))
        #expect(buffer.next() == .end)
        #expect(buffer.next() == .end)
    }

    @Test func finalFromTheStartEndsAtOnce() {
        var buffer = WatchBuffer(namesJobs: true)
        buffer.track(Self.job, delivered: 3, isFinal: true)
        #expect(buffer.next() == .end)
    }

    @Test func endsWithTheLastOfItsJobs() {
        var buffer = watch()
        buffer.track(Self.other, delivered: 1, isFinal: false)
        buffer.receive(Self.event(2, .cancelled))
        #expect(buffer.next() == .send(Self.event(2, .cancelled)))
        #expect(buffer.next() == .wait)
        buffer.receive(Self.event(2, .cancelled, of: Self.other))
        #expect(buffer.next() == .send(Self.event(2, .cancelled, of: Self.other)))
        #expect(buffer.next() == .end)
    }

    @Test func repeatsAreLeftOut() {
        var buffer = watch(from: 2)
        for sequence: Int64 in [1, 2, 3, 3, 2] { buffer.receive(Self.event(sequence)) }
        #expect(buffer.next() == .send(Self.event(3)))
        #expect(buffer.next() == .wait)
        buffer.receive(Self.event(3))
        buffer.noteEvents(of: Self.job, upTo: 3)
        #expect(buffer.next() == .wait)
    }

    @Test func gapIsReadBeforeAnythingElse() {
        var buffer = watch()
        buffer.receive(Self.event(3))
        #expect(buffer.next() == .read([Self.job: 1]))
        #expect(buffer.next() == .wait)
        // What comes meanwhile waits for its turn.
        buffer.receive(Self.event(4, .failed))
        #expect(buffer.next() == .wait)
        buffer.caughtUp([Self.job: [Self.event(2), Self.event(3)]])
        #expect(buffer.next() == .send(Self.event(2)))
        #expect(buffer.next() == .send(Self.event(3)))
        #expect(buffer.next() == .read([Self.job: 3]))
        buffer.caughtUp([Self.job: [Self.event(4, .failed)]])
        #expect(buffer.next() == .send(Self.event(4, .failed)))
        #expect(buffer.next() == .end)
    }

    @Test func gapDoesNotHoldUpOtherJobs() {
        var buffer = watch()
        buffer.track(Self.other, delivered: 1, isFinal: false)
        buffer.receive(Self.event(3))
        buffer.receive(Self.event(2, of: Self.other))
        #expect(buffer.next() == .send(Self.event(2, of: Self.other)))
        #expect(buffer.next() == .read([Self.job: 1]))
        buffer.receive(Self.event(3, of: Self.other))
        #expect(buffer.next() == .send(Self.event(3, of: Self.other)))
        #expect(buffer.next() == .wait)
    }

    @Test func eventThatWasOnlyHeardOfIsRead() {
        var buffer = watch()
        buffer.noteEvents(of: Self.job, upTo: 3)
        #expect(buffer.next() == .read([Self.job: 1]))
        // More than was asked for is welcome, and what was sent already is not.
        buffer.caughtUp([Self.job: [Self.event(1, .enqueued), Self.event(2), Self.event(3), Self.event(4)]])
        for sequence: Int64 in 2...4 { #expect(buffer.next() == .send(Self.event(sequence))) }
        #expect(buffer.next() == .wait)
        buffer.receive(Self.event(4))
        #expect(buffer.next() == .wait)
        buffer.receive(Self.event(5))
        #expect(buffer.next() == .send(Self.event(5)))
    }

    @Test func readInPieces() {
        var buffer = watch()
        buffer.noteEvents(of: Self.job, upTo: 4)
        #expect(buffer.next() == .read([Self.job: 1]))
        buffer.caughtUp([Self.job: [Self.event(2)]])
        #expect(buffer.next() == .send(Self.event(2)))
        #expect(buffer.next() == .read([Self.job: 2]))
        // A hole in what was read: the rest is read again.
        buffer.caughtUp([Self.job: [Self.event(3), Self.event(5)]])
        #expect(buffer.next() == .send(Self.event(3)))
        #expect(buffer.next() == .read([Self.job: 3]))
    }

    @Test func nothingFoundIsNotAskedForForever() {
        var buffer = watch()
        buffer.noteEvents(of: Self.job, upTo: 9)
        #expect(buffer.next() == .read([Self.job: 1]))
        buffer.caughtUp([Self.job: []])
        #expect(buffer.next() == .wait)
        buffer.noteEvents(of: Self.job, upTo: 2)
        #expect(buffer.next() == .read([Self.job: 1]))
    }

    /// The answer's snapshot may be older than what is heard of while it is on its way.
    @Test func whatComesDuringAReadIsNotForgotten() {
        var buffer = watch(from: 3)
        buffer.recheck()
        #expect(buffer.next() == .read([Self.job: 3]))
        buffer.receive(Self.event(4, .succeeded))
        buffer.caughtUp([Self.job: []])
        #expect(buffer.next() == .send(Self.event(4, .succeeded)))
        #expect(buffer.next() == .end)
    }

    @Test func whatIsHeardOfDuringAReadIsReadAgain() {
        var buffer = watch(from: 3)
        buffer.recheck()
        #expect(buffer.next() == .read([Self.job: 3]))
        buffer.noteEvents(of: Self.job, upTo: 4)
        #expect(buffer.next() == .wait)
        buffer.caughtUp([Self.job: []])
        #expect(buffer.next() == .read([Self.job: 3]))
        buffer.caughtUp([Self.job: [Self.event(4, .succeeded)]])
        #expect(buffer.next() == .send(Self.event(4, .succeeded)))
        #expect(buffer.next() == .end)
    }

    @Test func recheckDuringAReadReadsAgain() {
        var buffer = watch()
        buffer.noteEvents(of: Self.job, upTo: 2)
        #expect(buffer.next() == .read([Self.job: 1]))
        buffer.recheck()
        buffer.caughtUp([Self.job: [Self.event(2)]])
        #expect(buffer.next() == .send(Self.event(2)))
        #expect(buffer.next() == .read([Self.job: 2]))
    }

    /// Not before the answer: it may tell of a Retry.
    @Test func endWaitsForTheRead() {
        var buffer = watch()
        buffer.recheck()
        #expect(buffer.next() == .read([Self.job: 1]))
        buffer.receive(Self.event(2, .failed))
        #expect(buffer.next() == .send(Self.event(2, .failed)))
        #expect(buffer.next() == .wait)
        buffer.caughtUp([Self.job: [Self.event(2, .failed), Self.event(3, .retried)]])
        #expect(buffer.next() == .send(Self.event(3, .retried)))
        #expect(buffer.next() == .wait)
    }

    @Test func recheckReadsWhatIsOpen() {
        var buffer = watch()
        buffer.track(Self.other, delivered: 2, isFinal: true)
        buffer.recheck()
        #expect(buffer.next() == .read([Self.job: 1]))
        buffer.caughtUp([Self.job: []])
        #expect(buffer.next() == .wait)
    }

    @Test func manyJobsAreReadInSeveralReads() {
        var buffer = WatchBuffer(namesJobs: true)
        let jobs = (0..<150).map(Self.id)
        for job in jobs { buffer.track(job, delivered: 1, isFinal: false) }
        buffer.recheck()
        var read: Set<JobID> = []
        var turns: [Int] = []
        while case .read(let wanted) = buffer.next() {
            turns.append(wanted.count)
            read.formUnion(wanted.keys)
            buffer.caughtUp(wanted.mapValues { _ in [] })
        }
        #expect(turns == [64, 64, 22])
        #expect(read == Set(jobs))
    }

    // MARK: Before the state was read

    @Test func eventBeforeItsJobIsTrackedIsRead() {
        var buffer = WatchBuffer(namesJobs: true)
        buffer.receive(Self.event(2))
        buffer.receive(Self.event(3, .succeeded))
        buffer.track(Self.job, delivered: 2, isFinal: false)
        #expect(buffer.next() == .read([Self.job: 2]))
        buffer.caughtUp([Self.job: [Self.event(3, .succeeded)]])
        #expect(buffer.next() == .send(Self.event(3, .succeeded)))
        #expect(buffer.next() == .end)
    }

    @Test func eventThatTheSnapshotTellsIsNotRead() {
        var buffer = WatchBuffer(namesJobs: true)
        buffer.receive(Self.event(2))
        buffer.noteEvents(of: Self.job, upTo: 2)
        buffer.track(Self.job, delivered: 2, isFinal: false)
        #expect(buffer.next() == .wait)
    }

    @Test func trackedTwiceGoesOnFromTheLater() {
        var buffer = watch(from: 3)
        buffer.track(Self.job, delivered: 1, isFinal: false)
        buffer.receive(Self.event(4))
        #expect(buffer.next() == .send(Self.event(4)))
    }

    // MARK: Retry

    @Test func retryReopens() {
        var buffer = watch()
        buffer.receive(Self.event(2, .failed))
        buffer.receive(Self.event(3, .retried))
        #expect(buffer.next() == .send(Self.event(2, .failed)))
        #expect(buffer.next() == .send(Self.event(3, .retried)))
        #expect(buffer.next() == .wait)
        buffer.receive(Self.event(4, .cancelled))
        #expect(buffer.next() == .send(Self.event(4, .cancelled)))
        #expect(buffer.next() == .end)
    }

    @Test func endWaitsForWhatWasHeardOf() {
        var buffer = watch()
        buffer.receive(Self.event(2, .failed))
        buffer.noteEvents(of: Self.job, upTo: 3)
        #expect(buffer.next() == .send(Self.event(2, .failed)))
        #expect(buffer.next() == .read([Self.job: 2]))
        #expect(buffer.next() == .wait)
        buffer.caughtUp([Self.job: [Self.event(3, .retried)]])
        #expect(buffer.next() == .send(Self.event(3, .retried)))
        #expect(buffer.next() == .wait)
    }

    // MARK: Progress and log

    @Test func onlyTheLatestProgress() {
        var buffer = watch()
        buffer.receive(progress: progress(0.1), attempt: 1, of: Self.job)
        buffer.receive(progress: progress(0.2), attempt: 1, of: Self.job)
        #expect(buffer.next() == .sendProgress(Self.job, attempt: 1, progress(0.2)))
        #expect(buffer.next() == .wait)
    }

    /// It is told when it is said, and again when it is saved.
    @Test func progressIsNotRepeated() {
        var buffer = watch()
        for fraction in [0.2, 0.2, 0.1] {
            buffer.receive(progress: progress(fraction), attempt: 1, of: Self.job)
        }
        #expect(buffer.next() == .sendProgress(Self.job, attempt: 1, progress(0.2)))
        buffer.receive(progress: progress(0.2), attempt: 1, of: Self.job)
        #expect(buffer.next() == .wait)
    }

    /// The next attempt may run on a node whose clock is behind.
    @Test func progressOfTheNextAttemptIsNotMeasuredByTheLast() {
        var buffer = watch()
        buffer.receive(progress: progress(0.9, at: 1000), attempt: 1, of: Self.job)
        #expect(buffer.next() == .sendProgress(Self.job, attempt: 1, progress(0.9, at: 1000)))
        buffer.receive(Self.event(2, .released))
        buffer.receive(Self.event(3, .started))
        buffer.receive(progress: progress(0.1, at: 10), attempt: 1, of: Self.job)
        for event in [Self.event(2, .released), Self.event(3, .started)] {
            #expect(buffer.next() == .send(event))
        }
        #expect(buffer.next() == .sendProgress(Self.job, attempt: 1, progress(0.1, at: 10)))
    }

    @Test func eventsGoBeforeProgress() {
        var buffer = watch()
        buffer.receive(progress: progress(0.1), attempt: 1, of: Self.job)
        buffer.receive(Self.event(2))
        #expect(buffer.next() == .send(Self.event(2)))
        #expect(buffer.next() == .sendProgress(Self.job, attempt: 1, progress(0.1)))
    }

    @Test func progressOfAnEndedAttemptIsLeftOut() {
        var buffer = watch()
        buffer.receive(progress: progress(0.9), attempt: 1, of: Self.job)
        buffer.receive(Self.event(2, .retryScheduled))
        #expect(buffer.next() == .send(Self.event(2, .retryScheduled)))
        #expect(buffer.next() == .wait)
    }

    @Test func noProgressAfterTheEnd() {
        var buffer = watch()
        buffer.receive(Self.event(2, .succeeded))
        buffer.receive(progress: progress(0.9), attempt: 1, of: Self.job)
        #expect(buffer.next() == .send(Self.event(2, .succeeded)))
        #expect(buffer.next() == .end)
    }

    @Test func progressOfAnUnknownJobIsLeftOut() {
        var buffer = WatchBuffer(namesJobs: false)
        buffer.track(Self.other, delivered: 1, isFinal: false)
        buffer.receive(progress: progress(0.1), attempt: 1, of: Self.job)
        #expect(buffer.next() == .wait)
    }

    @Test func progressThatComesBeforeItsNamedJobIsTracked() {
        for isFinal in [false, true] {
            var buffer = WatchBuffer(namesJobs: true)
            buffer.receive(progress: progress(0.1), attempt: 1, of: Self.job)
            buffer.track(Self.job, delivered: 2, isFinal: isFinal)
            #expect(
                buffer.next() == (isFinal ? .end : .sendProgress(Self.job, attempt: 1, progress(0.1))))
        }
    }

    /// Whoever saves it may leave out watches that have it for certain.
    @Test func progressThatMayBeLostIsWantedAgain() {
        var early = WatchBuffer(namesJobs: true)
        let isSureBefore = early.receive(progress: progress(0.1), attempt: 1, of: Self.job)
        #expect(!isSureBefore)
        var buffer = watch()
        let isSure = buffer.receive(progress: progress(0.1), attempt: 1, of: Self.job)
        // It has a later one.
        let isSureOfEarlier = buffer.receive(progress: progress(0.05), attempt: 1, of: Self.job)
        #expect(isSure && isSureOfEarlier)
        // Another node's end of the last attempt has not been told yet.
        buffer.receive(Self.event(3))
        let isSureBehind = buffer.receive(progress: progress(0.2), attempt: 2, of: Self.job)
        #expect(buffer.next() == .read([Self.job: 1]))
        let isSureDuringARead = buffer.receive(progress: progress(0.3), attempt: 2, of: Self.job)
        #expect(!isSureBehind && !isSureDuringARead)
        buffer.caughtUp([Self.job: [Self.event(2, .retryScheduled), Self.event(3)]])
        #expect(buffer.next() == .send(Self.event(2, .retryScheduled)))
        #expect(buffer.next() == .send(Self.event(3)))
        #expect(buffer.next() == .wait)
        let isSureAgain = buffer.receive(progress: progress(0.3), attempt: 2, of: Self.job)
        #expect(isSureAgain)
        #expect(buffer.next() == .sendProgress(Self.job, attempt: 2, progress(0.3)))
    }

    @Test func progressIsBounded() {
        var buffer = WatchBuffer(namesJobs: true)
        let jobs = (0..<WatchBuffer.progressMax + 5).map(Self.id)
        for job in jobs { buffer.track(job, delivered: 1, isFinal: false) }
        for job in jobs { buffer.receive(progress: progress(0.1), attempt: 1, of: job) }
        var sent = 0
        while case .send = buffer.next() { sent += 1 }
        #expect(sent == WatchBuffer.progressMax)
    }

    @Test func logLinesInOrderAndBounded() {
        var buffer = watch()
        buffer.receive(log: lines(1...2), of: Self.job)
        buffer.receive(log: lines(3...3), of: Self.job)
        buffer.receive(log: lines(1...1), of: Self.other)
        #expect(buffer.next() == .sendLog(Self.job, lines(1...3)))
        #expect(buffer.next() == .wait)
        let bound = Int64(WatchBuffer.logLinesMax)
        buffer.receive(log: lines(1...bound), of: Self.job)
        buffer.receive(log: lines(bound + 1...bound + 1), of: Self.job)
        #expect(buffer.next() == .sendLog(Self.job, lines(1...bound)))
        // There is room again.
        buffer.receive(log: lines(bound + 2...bound + 2), of: Self.job)
        #expect(buffer.next() == .sendLog(Self.job, lines(bound + 2...bound + 2)))
    }

    /// A reader that is slow has one message queued, which must not be a megabyte.
    @Test func longLogIsSentInParts() {
        var buffer = watch()
        let longest = String(repeating: "l", count: JobLimits.logMessageBytesMax)
        let said = lines(1...6).map {
            LogLine(number: $0.number, at: $0.at, attempt: $0.attempt, level: $0.level, message: longest)
        }
        buffer.receive(log: said, of: Self.job)
        #expect(buffer.next() == .sendLog(Self.job, Array(said[..<4])))
        #expect(buffer.next() == .sendLog(Self.job, Array(said[4...])))
        #expect(buffer.next() == .wait)
    }

    @Test func logGoesOutBeforeTheWatchEnds() {
        var buffer = watch()
        buffer.receive(log: lines(1...1), of: Self.job)
        buffer.receive(Self.event(2, .succeeded))
        #expect(buffer.next() == .send(Self.event(2, .succeeded)))
        #expect(buffer.next() == .sendLog(Self.job, lines(1...1)))
        #expect(buffer.next() == .end)
    }

    // MARK: Bounds

    @Test func slowReaderOfNamedJobsLosesNothing() {
        var buffer = watch()
        let last = Int64(WatchBuffer.eventsMax + 100)
        for sequence in 2...last { buffer.receive(Self.event(sequence)) }
        var got: [Int64] = []
        var reads = 0
        while true {
            switch buffer.next() {
            case .send(let update): got.append(update.sequence)
            case .read(let after):
                reads += 1
                #expect(after == [Self.job: Int64(WatchBuffer.eventsMax) + 1])
                buffer.caughtUp([Self.job: ((after[Self.job] ?? 0) + 1...last).map { Self.event($0) }])
                continue
            default: break
            }
            if got.last == last { break }
        }
        #expect(got == Array(2...last))
        #expect(reads == 1)
    }
}

@Suite struct WatchBufferScopeTests {
    private func event(
        _ sequence: Int64, _ type: JobEventType = .started, of job: JobID = WatchBufferTests.job
    )
        -> JobEvent
    {
        WatchBufferTests.event(sequence, type, of: job)
    }

    private let job = WatchBufferTests.job

    @Test func neverEndsByItself() {
        var buffer = WatchBuffer(namesJobs: false)
        #expect(buffer.next() == .wait)
        buffer.receive(event(1, .enqueued))
        buffer.receive(event(2, .cancelled))
        #expect(buffer.next() == .send(event(1, .enqueued)))
        #expect(buffer.next() == .send(event(2, .cancelled)))
        #expect(buffer.next() == .wait)
    }

    @Test func whatTheSnapshotTellsIsNotRepeated() {
        var buffer = WatchBuffer(namesJobs: false)
        for sequence: Int64 in 1...3 { buffer.receive(event(sequence, sequence == 1 ? .enqueued : .started)) }
        buffer.track(job, delivered: 2, isFinal: false)
        #expect(buffer.next() == .send(event(3)))
        #expect(buffer.next() == .wait)
    }

    @Test func snapshotLaterThanAllThatWasHeard() {
        var buffer = WatchBuffer(namesJobs: false)
        buffer.receive(event(1, .enqueued))
        buffer.track(job, delivered: 3, isFinal: false)
        buffer.receive(event(2))
        buffer.receive(event(3))
        #expect(buffer.next() == .wait)
        buffer.receive(event(4, .succeeded))
        #expect(buffer.next() == .send(event(4, .succeeded)))
    }

    /// The feed may tell of the end of a job twice.
    @Test func endIsNotRepeated() {
        var buffer = WatchBuffer(namesJobs: false)
        for _ in 0..<2 {
            buffer.receive(event(1, .enqueued))
            buffer.receive(event(2, .cancelled))
        }
        #expect(buffer.next() == .send(event(1, .enqueued)))
        #expect(buffer.next() == .send(event(2, .cancelled)))
        buffer.receive(event(2, .cancelled))
        #expect(buffer.next() == .wait)
        buffer.receive(event(3, .retried))
        #expect(buffer.next() == .send(event(3, .retried)))
    }

    /// A node hears at once of its own start of a job that another node has just taken in.
    @Test func jobThatIsFirstHeardOfInTheMiddleIsReadFromItsBeginning() {
        var buffer = WatchBuffer(namesJobs: false)
        buffer.receive(event(2))
        #expect(buffer.next() == .read([job: 0]))
        buffer.caughtUp([job: [event(1, .enqueued), event(2)]])
        #expect(buffer.next() == .send(event(1, .enqueued)))
        #expect(buffer.next() == .send(event(2)))
        buffer.receive(event(1, .enqueued))
        #expect(buffer.next() == .wait)
    }

    /// What was before is in the past of the watch.
    @Test func jobThatIsFirstHeardOfByItsRetryIsNotReadFromItsBeginning() {
        var buffer = WatchBuffer(namesJobs: false)
        buffer.receive(event(7, .retried))
        #expect(buffer.next() == .send(event(7, .retried)))
        buffer.receive(event(8))
        #expect(buffer.next() == .send(event(8)))
    }

    /// The feed has found an event that it cannot read itself: the watch reads it, or ends.
    @Test func scopeReadsWhatItHearsOf() {
        var buffer = WatchBuffer(namesJobs: false)
        let other = WatchBufferTests.id(1)
        buffer.track(WatchBufferTests.job, delivered: 3, isFinal: false)
        buffer.noteEvents(of: WatchBufferTests.job, upTo: 4)
        buffer.noteEvents(of: other, upTo: 2)
        #expect(buffer.hasNext)
        #expect(buffer.next() == .read([WatchBufferTests.job: 3, other: 0]))
        for number in 2...WatchBuffer.positionsMax {
            buffer.track(WatchBufferTests.id(number), delivered: 1, isFinal: false)
        }
        buffer.noteEvents(of: WatchBufferTests.id(WatchBuffer.positionsMax + 1), upTo: 2)
        #expect(buffer.next() == .overflow)
    }

    @Test func slowReaderEndsTheWatch() {
        var buffer = WatchBuffer(namesJobs: false)
        for sequence in 1...WatchBuffer.scopeEventsMax + 1 {
            buffer.receive(event(1, .enqueued, of: WatchBufferTests.id(sequence)))
        }
        var sent = 0
        while case .send = buffer.next() { sent += 1 }
        #expect(sent == WatchBuffer.scopeEventsMax)
        #expect(buffer.next() == .overflow)
    }

    /// However many others end before its events are read.
    @Test func finalJobThatIsBehindKeepsItsPosition() {
        var buffer = WatchBuffer(namesJobs: false)
        buffer.receive(event(1, .enqueued))
        buffer.receive(event(2, .failed))
        buffer.receive(event(4))
        for number in 1...WatchBuffer.finalPositionsMax {
            let other = WatchBufferTests.id(number)
            buffer.receive(event(1, .enqueued, of: other))
            buffer.receive(event(2, .cancelled, of: other))
            while case .send = buffer.next() {}
            guard number == 1 else { continue }
            // It is on its way by now.
            #expect(buffer.next() == .wait)
        }
        buffer.caughtUp([job: [event(3, .retried), event(4)]])
        #expect(buffer.next() == .send(event(3, .retried)))
        #expect(buffer.next() == .send(event(4)))
        #expect(buffer.next() == .wait)
    }

    @Test func manyMoreJobsThanPositions() {
        var buffer = WatchBuffer(namesJobs: false)
        let count = WatchBuffer.positionsMax + 100
        for number in 0..<count { buffer.track(WatchBufferTests.id(number), delivered: 1, isFinal: false) }
        var sent: [JobID: [Int64]] = [:]
        for number in 0..<count {
            let id = WatchBufferTests.id(number)
            buffer.receive(event(2, of: id))
            buffer.receive(event(3, .succeeded, of: id))
            while true {
                let action = buffer.next()
                if case .send(let update) = action { sent[update.job, default: []].append(update.sequence) }
                if case .read = action {
                    buffer.caughtUp([
                        id: [event(1, .enqueued, of: id), event(2, of: id), event(3, .succeeded, of: id)]
                    ])
                }
                if action == .wait { break }
            }
        }
        #expect(sent.count == count)
        // What has no place may be repeated from its beginning.
        #expect(sent.values.allSatisfy { $0 == [2, 3] || $0 == [1, 2, 3] })
        #expect(sent.values.count { $0.count == 3 } <= 100)
    }
}
