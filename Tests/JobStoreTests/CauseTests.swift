import JobModel
import JobStore
import Support
import Testing

/// Why a run ended, beside the word that its handler chose.
@Suite struct CauseTests {
    private func end(_ error: JobError) -> Verdict {
        error.cause == .cancelled ? .final(.cancelled, error, nil) : .final(.failed, error, nil)
    }

    @Test func everyCauseIsKept() async throws {
        try await Bench.with { bench in
            for cause in FailureCause.allCases {
                let error = JobError(message: "m", cause: cause)
                let (final, back) = (try await bench.start(), try await bench.start())
                try await bench.finish(final, end(error))
                try await bench.finish(
                    back, .again(.retryScheduled, error, after: .seconds(9), countsAttempt: true))
                for run in [final, back] {
                    #expect(try await bench.job(run.key.id).error == error)
                    let events = try await bench.store.events(after: [run.key.number: 2])[run.key.number]
                    #expect(events?.map(\.error) == [error])
                    #expect(bench.changes.events(of: run.key.id).last == events?.last)
                }
                // Nodes of the release before know the word only, and it must not be empty.
                #expect(
                    try await bench.texts("SELECT reason FROM finished WHERE number = \(final.key.number)")
                        == [cause.word])
                #expect(
                    try await bench.texts("SELECT reason FROM history WHERE number = \(back.key.number)")
                        == [cause.word])
            }
        }
    }

    @Test func wordOfAHandlerIsNotTakenForACause() async throws {
        try await Bench.with { bench in
            for word in ["timeout", "interrupted", "quota"] {
                let error = JobError(reason: word, message: "m", cause: .handler)
                let run = try await bench.start()
                try await bench.finish(run, end(error))
                let job = try #require(await bench.store.jobWithHistory(run.key.id, payload: false))
                #expect(job.error == error && job.error?.reason == word)
                #expect(job.attempts.map(\.outcome) == [.failed])
            }
        }
    }

    /// Such rows have no cause.
    @Test func rowOfTheReleaseBefore() async throws {
        try await Bench.with { bench in
            try await bench.script(
                "DROP TRIGGER finished_immutable ON finished; DROP TRIGGER history_immutable ON history")
            for (word, outcome) in [
                ("failed", Attempt.Outcome.failed), ("permanent", .failed), ("timeout", .timedOut),
                ("interrupted", .interrupted), ("quota", .failed), ("", .failed),
            ] {
                let run = try await bench.start()
                try await bench.finish(run, .failure)
                try await bench.script(
                    "UPDATE finished SET cause = NULL, reason = '\(word)' WHERE number = \(run.key.number)")
                let job = try #require(await bench.store.jobWithHistory(run.key.id, payload: false))
                let cause = FailureCause.allCases.first { $0.word == word }
                #expect(job.error == JobError(reason: word, message: "oops", cause: cause ?? .handler))
                #expect(job.error?.reason == (cause == nil ? word : ""))
                #expect(job.attempts.map(\.outcome) == [outcome])
            }
            let run = try await bench.start()
            try await bench.finish(run, .released)
            try await bench.script("UPDATE history SET cause = NULL WHERE number = \(run.key.number)")
            #expect(try await bench.job(run.key.id).error == JobError(message: "m", cause: .released))
        }
    }
}
