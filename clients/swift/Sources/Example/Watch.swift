import Foundation
import GRPCCore

/// The time for which a watch that was interrupted tries to resume without receiving a message.
let resumeMax = Duration.seconds(30)

/// A watch that ended with one of these would end the same way again.
let finalCodes: Set<RPCError.Code> = [
    .invalidArgument, .notFound, .outOfRange, .failedPrecondition, .permissionDenied, .unauthenticated,
    .unimplemented,
]

/// The states in which a job has ended.
let finalStates: Set<Signalbox_V1_JobState> = [.succeeded, .failed, .cancelled]

/// The end of one stream.
struct StreamEnd {
    /// The sequence after which a new stream goes on.
    var sequence: Int
    var hasReceived = false
    /// Nil: the job is final.
    var error: RPCError?
}

/// Prints what happens to a job until it is final. When the watch breaks it resumes behind the last event.
func watch(_ id: String, after sequence: Int, _ jobs: JobService) async throws {
    var sequence = sequence
    var backoff = Backoff()
    var giveUpAt = ContinuousClock.now + resumeMax
    while true {
        let end = try await watchOnce(id, after: sequence, jobs)
        guard let error = end.error else { break }
        sequence = end.sequence
        if end.hasReceived {
            backoff = Backoff()
            giveUpAt = .now + resumeMax
        }
        if finalCodes.contains(error.code) || .now >= giveUpAt { throw error }
        try show(Line(event: "reconnect", code: name(of: error.code)))
        try await Task.sleep(for: backoff.next(after: error))
    }
    // The last event has the result only if it is short.
    let job = try await call { try await jobs.getJob(.with { $0.jobID = id }, options: $0) }.job
    try show(
        Line(
            event: "end", state: name(of: job.state), result: String(decoding: job.result.data, as: UTF8.self)
        ))
}

/// Reads one stream to its end.
private func watchOnce(_ id: String, after sequence: Int, _ jobs: JobService) async throws -> StreamEnd {
    var request = Signalbox_V1_WatchRequest()
    request.jobs = [
        .with {
            $0.jobID = id
            $0.afterSequence = .init(sequence)
        }
    ]
    do {
        return try await jobs.watch(request, options: anyCall) { response in
            var end = StreamEnd(sequence: sequence)
            do {
                for try await message in response.messages {
                    end.hasReceived = true
                    end.sequence = try show(message) ?? end.sequence
                }
            } catch let error as RPCError {
                end.error = error
            }
            return end
        }
    } catch let error as RPCError {
        return StreamEnd(sequence: sequence, error: error)
    }
}

/// Prints a message of a watch. Returns the sequence after which the watch would resume, or nil if the message does not
/// change it.
private func show(_ message: Signalbox_V1_WatchResponse) throws -> Int? {
    switch message.event {
    case .snapshot(let snapshot):
        let sequence = Int(snapshot.job.sequence)
        try show(Line(event: "snapshot", state: name(of: snapshot.job.state), sequence: sequence))
        // The job's last event has the sequence of a final snapshot, and follows it.
        return finalStates.contains(snapshot.job.state) ? sequence - 1 : sequence
    case .lifecycle(let event):
        let sequence = Int(event.sequence)
        try show(
            Line(
                event: "lifecycle", type: name(of: event.type), state: name(of: event.state),
                sequence: sequence))
        return sequence
    case .progress(let event):
        try show(Line(event: "progress", fraction: event.progress.fraction, attempt: Int(event.attempt)))
        return nil
    default:
        // Heartbeats, log lines, and what later versions of the service send.
        return nil
    }
}
