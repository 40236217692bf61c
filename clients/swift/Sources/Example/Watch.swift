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
    /// The place that the watch has reached: the next stream begins there.
    var request: Signalbox_V1_WatchRequest
    var hasReceived = false
    /// The service could not go on from the token, and the stream was left before the snapshot that it sends instead.
    var isTokenRefused = false
    /// Nil: the job is final, or the token was refused.
    var error: RPCError?
}

extension Signalbox_V1_WatchRequest {
    /// The request of a watch of one job.
    static func of(_ id: String, after sequence: Int64 = 0) -> Self {
        let job = Signalbox_V1_WatchedJob.with {
            $0.jobID = id
            $0.afterSequence = sequence
        }
        return .with { $0.jobs = [job] }
    }
}

/// Prints what happens to the one job of the request until it is final. When the watch breaks it resumes after the last
/// event.
func watch(_ request: Signalbox_V1_WatchRequest, _ jobs: JobService) async throws {
    var request = request
    let id = request.jobs[0].jobID
    var backoff = Backoff()
    var giveUpAt = ContinuousClock.now + resumeMax
    while true {
        let end = try await watchOnce(request, jobs)
        request = end.request
        if end.isTokenRefused {
            // It can go on after the sequence of the last event.
            request.resumeToken = ""
            continue
        }
        guard let error = end.error else { break }
        if end.hasReceived {
            backoff = Backoff()
            giveUpAt = .now + resumeMax
        }
        let delay = try backoff.next(after: error)
        if finalCodes.contains(error.code) || .now + delay >= giveUpAt { throw error }
        try show(Line(event: "reconnect", code: name(of: error.code)))
        try await Task.sleep(for: delay)
    }
    // The last event has the result only if it is short.
    let job = try await call { try await jobs.getJob(.with { $0.jobID = id }, options: $0) }.job
    try show(
        Line(
            event: "end", state: name(of: job.state), result: String(decoding: job.result.data, as: UTF8.self)
        ))
}

/// Reads one stream to its end.
private func watchOnce(_ request: Signalbox_V1_WatchRequest, _ jobs: JobService) async throws -> StreamEnd {
    do {
        return try await jobs.watch(request) { response in
            var end = StreamEnd(request: request)
            do {
                for try await message in response.messages {
                    end.hasReceived = true
                    if case .opened(let opened) = message.event, !opened.resumed,
                        !request.resumeToken.isEmpty
                    {
                        // To return cancels the call.
                        end.isTokenRefused = true
                        return end
                    }
                    try show(message, &end.request.jobs[0])
                    if !message.resumeToken.isEmpty { end.request.resumeToken = message.resumeToken }
                }
            } catch let error as RPCError {
                end.error = error
            }
            return end
        }
    } catch let error as RPCError {
        return StreamEnd(request: request, error: error)
    }
}

/// Prints a message of a watch, and keeps in `watched` how far the watch came.
private func show(_ message: Signalbox_V1_WatchResponse, _ watched: inout Signalbox_V1_WatchedJob) throws {
    switch message.event {
    case .snapshot(let snapshot):
        let job = snapshot.job
        try show(Line(event: "snapshot", state: name(of: job.state), sequence: job.sequence))
        // The job's last event has the sequence of a final snapshot, and follows it.
        let sequence = finalStates.contains(job.state) ? job.sequence - 1 : job.sequence
        watched.afterSequence = max(sequence, watched.afterSequence)
    case .lifecycle(let event):
        // A stream that resumes by a token may repeat the latest events.
        guard event.sequence > watched.afterSequence else { break }
        watched.afterSequence = event.sequence
        try show(
            Line(
                event: "lifecycle", type: name(of: event.type), state: name(of: event.state),
                sequence: event.sequence))
    case .progress(let event):
        // Left out if it is not known.
        let fraction = event.progress.hasFraction ? event.progress.fraction : nil
        try show(Line(event: "progress", fraction: fraction, attempt: Int(event.attempt)))
    default:
        // Messages that need no line, and messages of a newer service.
        break
    }
}
