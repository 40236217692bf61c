package import JobModel

extension ModelTables {
    /// Ends runs in one commit; of two ends of a run the first counts.
    ///
    /// - Returns: one outcome for each, and the event of each that was written.
    package mutating func finish(
        _ finishedRuns: [FinishedRun], at now: Timestamp
    ) -> [(outcome: FinishResult, event: JobEvent?)] {
        var seen: Set<RunFence> = []
        return finishedRuns.map { finished in
            guard seen.insert(finished.fence).inserted,
                let index = index(of: finished.fence)
            else { return (.stale, nil) }
            return finish(index, finished, at: now)
        }
    }

    private mutating func finish(
        _ index: Int, _ finished: FinishedRun, at now: Timestamp
    ) -> (outcome: FinishResult, event: JobEvent?) {
        let attempt = jobs[index].attempt
        if case .again = finished.verdict, let note = jobs[index].cancelNote {
            return (.cancelRequested(note: note), nil)
        }
        let startedAt = jobs[index].run?.startedAt
        jobs[index].run = nil
        jobs[index].cancelNote = nil
        let event: JobEvent
        let ended: JobEventType
        switch finished.verdict {
        case .final(let type, let error, let result):
            ended = type
            jobs[index].error = error
            jobs[index].result = result
            jobs[index].finishedAt = now
            event = add(
                type, to: index, at: now, attempt: attempt, node: finished.node, error: error, result: result)
        case .again(let type, let error, let delay, let countsAttempt):
            ended = type
            jobs[index].isReady = (delay ?? .zero) <= .zero
            if let delay { jobs[index].dueAt = now.advanced(by: .milliseconds(delay.milliseconds)) }
            jobs[index].error = error
            if !countsAttempt || defects.contains(.forgetsAttempt) { jobs[index].lastAttempt += 1 }
            event = add(
                type, to: index, at: now, attempt: attempt, node: finished.node, error: error,
                dueAt: jobs[index].dueAt)
        }
        if defects.contains(.endsTwice) {
            let last = event
            add(ended, to: index, at: now, attempt: attempt, node: finished.node, error: last.error)
        }
        jobs[index].startedAt = startedAt
        let last = jobs[index].attempts.count - 1
        jobs[index].attempts[last].endedAt = now
        jobs[index].attempts[last].error = event.error
        jobs[index].attempts[last].outcome =
            Attempt.Outcome(endedBy: ended, cause: event.error?.cause) ?? .running
        jobs[index].attempts[last].isCounted = ended != .released
        return (.written, event)
    }

    package mutating func save(_ updates: [RunUpdate]) {
        for update in updates {
            guard let index = index(of: update.run.fence) else { continue }
            if let progress = update.progress { jobs[index].progress = (update.run.attempt, progress) }
            let known = Set(jobs[index].log.map(\.number))
            jobs[index].log += update.log.filter { !known.contains($0.number) }
            jobs[index].log.sort { $0.number < $1.number }
            jobs[index].log = jobs[index].log.suffix(JobLimits.logLinesKept)
        }
    }

    package mutating func save(
        checkpoint: [UInt8], of run: RunFence
    ) throws(StoreError) {
        guard let index = index(of: run) else { throw .stale }
        if defects.contains(.losesCheckpoint) { return }
        jobs[index].checkpoint = checkpoint
    }

    package func cancelRequests(of node: Int32) -> [(run: RunFence, note: String)] {
        jobs.compactMap { job in
            guard job.run?.node == node, let fence = job.fence, let note = job.cancelNote else { return nil }
            return (fence, note)
        }
    }
}
