import JobModel
import JobWatch
import TestRandom
import Testing

/// A database with jobs that happen, and a watch that hears of it in any order, late, twice or not at all, and reads
/// what is past when the answer comes. Whatever happens, each job's events come out once and in order.
@Suite struct WatchBufferModelTests {
    private struct Model {
        var random: SeededRandom
        /// All that will ever happen to each job.
        let future: [JobID: [JobEvent]]
        /// How much of it has happened.
        var committed: [JobID: Int] = [:]
        /// What the feed has not told yet.
        var undelivered: [JobEvent] = []
        var buffer = WatchBuffer(namesJobs: true)
        var tracked: [JobID: Int64] = [:]
        var sent: [JobID: [JobEvent]] = [:]
        var isReading: [JobID: Int64]?
        /// What the read has found, once its snapshot is taken.
        var found: [JobID: [JobEvent]]?
        /// Whether some events are never told. What the last recheck finds would hide what else goes wrong, so not in
        /// every run.
        let losesSome: Bool
        /// Something was not told.
        var mustRecheck = false
        var hasEnded = false

        init(seed: UInt64, jobs: Int, lengthMax: Int, losesSome: Bool) {
            var random = SeededRandom(seed: seed)
            var future: [JobID: [JobEvent]] = [:]
            for number in 0..<jobs {
                let id = WatchBufferTests.id(number)
                let length = Int.random(in: 2...lengthMax, using: &random)
                future[id] = (1...length).map { sequence in
                    // A few ends in the middle, each undone by a Retry.
                    let type: JobEventType =
                        if sequence == length { .succeeded } else if sequence == 1 { .enqueued } else {
                            [.failed, .retried, .started][sequence % 3]
                        }
                    return WatchBufferTests.event(Int64(sequence), type, of: id)
                }
                committed[id] = 1
            }
            self.future = future
            self.losesSome = losesSome
            self.random = random
        }

        mutating func happen(_ job: JobID) {
            guard let all = future[job], let count = committed[job], count < all.count else { return }
            committed[job] = count + 1
            undelivered.append(all[count])
        }

        private func isFinal(_ job: JobID, at sequence: Int64) -> Bool {
            future[job]?[Int(sequence) - 1].state.isFinal == true
        }

        /// Delivers one undelivered event, mostly an early one.
        mutating func deliver(lossPercent: Int) {
            guard !undelivered.isEmpty else { return }
            let index = random.chance(60) ? 0 : Int.random(in: 0..<min(8, undelivered.count), using: &random)
            let event = random.chance(10) ? undelivered[index] : undelivered.remove(at: index)
            // A recheck leaves out final jobs, so an event after an end is always delivered.
            let isAfterAnEnd = event.sequence > 1 && isFinal(event.jobID, at: event.sequence - 1)
            if losesSome, !isAfterAnEnd, random.chance(lossPercent) {
                mustRecheck = true
            } else if random.chance(lossPercent) {
                buffer.noteEvents(of: event.jobID, upTo: event.sequence)
            } else {
                buffer.receive(event)
            }
        }

        mutating func track(_ job: JobID) {
            guard tracked[job] == nil, let count = committed[job], let now = future[job]?[count - 1] else {
                return
            }
            // The client's cursor may be older than the state: what is between was sent by the driver.
            tracked[job] = now.sequence
            buffer.track(job, delivered: now.sequence, isFinal: now.state.isFinal)
        }

        /// A read sees what is committed when its snapshot is taken, which is long before the watch has the answer.
        mutating func lookAtTheDatabase() {
            guard let wanted = isReading, found == nil else { return }
            var answer: [JobID: [JobEvent]] = [:]
            for (job, after) in wanted {
                let events = (future[job] ?? []).prefix(committed[job] ?? 0).filter { $0.sequence > after }
                // Where something was lost, only the whole answer says that there is no more.
                let isCut = !mustRecheck && random.chance(20)
                let most = isCut ? max(1, events.count / 2) : events.count
                answer[job] = Array(events.prefix(most))
            }
            found = answer
        }

        mutating func answerRead() {
            lookAtTheDatabase()
            guard let answer = found else { return }
            (isReading, found) = (nil, nil)
            buffer.caughtUp(answer)
        }

        mutating func step() {
            switch buffer.next() {
            case .send(let update):
                if let event = update.event { sent[update.job, default: []].append(event) }
            case .read(let wanted):
                #expect(isReading == nil && wanted.count <= WatchBuffer.readJobsMax)
                isReading = wanted
                if random.chance(50) { lookAtTheDatabase() }
            case .end: hasEnded = true
            case .wait, .sendLog: break
            case .overflow: Issue.record("a watch of named jobs never overflows")
            }
        }

        /// Everything else is to come while a read is under way that has not seen it.
        mutating func beginRead() {
            buffer.recheck()
            for _ in 0..<10_000 where isReading == nil && !hasEnded { step() }
            lookAtTheDatabase()
        }

        mutating func finish() {
            for job in future.keys {
                track(job)
                while committed[job] ?? 0 < future[job]?.count ?? 0 { happen(job) }
            }
            while !undelivered.isEmpty { deliver(lossPercent: 50) }
            if mustRecheck { buffer.recheck() }
            for _ in 0..<1_000_000 where !hasEnded {
                answerRead()
                step()
            }
        }
    }

    @Test(arguments: 0..<40)
    func eventsComeOnceAndInOrder(_ seed: Int) {
        let jobs = [1, 3, 20, 200][seed % 4]
        var model = Model(
            seed: UInt64(seed), jobs: jobs, lengthMax: seed % 2 == 0 ? 8 : 40, losesSome: seed % 5 < 2)
        let ids = Array(model.future.keys).sorted { $0.description < $1.description }
        // Every third watch has a reader that hardly reads: the buffer runs full.
        let isSlow = seed % 3 == 0
        // The driver tracks all jobs before it asks for anything.
        for id in ids {
            for _ in 0..<Int.random(in: 0...3, using: &model.random) {
                if let job = ids.randomElement(using: &model.random) { model.happen(job) }
                model.deliver(lossPercent: 10)
            }
            model.track(id)
        }
        for _ in 0..<jobs * 60 where !model.hasEnded {
            switch Int.random(in: 0..<10, using: &model.random) {
            case 0..<4: if let job = ids.randomElement(using: &model.random) { model.happen(job) }
            case 4..<7: model.deliver(lossPercent: 10)
            case 7: if model.random.chance(10) { model.buffer.recheck() } else { model.answerRead() }
            default: if !isSlow || model.random.chance(2) { model.step() }
            }
        }
        if !model.hasEnded { model.beginRead() }
        let endedEarly = model.hasEnded
        if !endedEarly { model.finish() }
        #expect(model.hasEnded)
        for (job, all) in model.future {
            let got = model.sent[job] ?? []
            let wanted = all.filter { $0.sequence > model.tracked[job] ?? 0 }
            if endedEarly {
                // It ended at a moment when all jobs were final, before a Retry that it had not heard of.
                #expect(got == Array(wanted.prefix(got.count)))
                #expect((got.last ?? all[Int(model.tracked[job] ?? 1) - 1]).state.isFinal)
            } else {
                #expect(got == wanted)
            }
        }
    }
}
