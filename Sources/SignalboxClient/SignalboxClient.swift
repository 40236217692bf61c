public import Foundation
import GRPC
import JobModel
@_exported public import SignalboxJobs
import SignalboxProto
import Support

/// A client of a Signalbox server.
///
/// ```swift
/// let client = try SignalboxClient(.init(host: "127.0.0.1", port: 7600))
/// let enqueued = try await client.enqueue("greet", userID: "ada", input: ["name": "Ada"])
/// for try await update in client.watch(.job(enqueued.job.id)) { print(update) }
/// print(try await client.result(of: enqueued.job.id, as: String.self))
/// await client.close()
/// ```
///
/// All calls share one connection, which is made when it is needed, and again when it is lost. Copies of a client are
/// the same client. A call that ends with `unavailable` is made again if that changes nothing twice. This holds for all
/// calls but a `retry` without an expected sequence; a request without id and key gets an id for that.
///
/// Every method throws a `SignalboxError`, or `CancellationError` when its task is cancelled, or what the function of
/// `Configuration.token` throws.
public struct SignalboxClient: JobQueue {
    private var caller: Caller

    /// Nothing is connected yet.
    ///
    /// Throws a `SignalboxError` `invalidArgument` where the configuration makes no sense, or would send a token in the
    /// clear to another machine.
    public init(_ configuration: Configuration = Configuration()) throws {
        try Self.check(configuration)
        caller = Caller(
            connector: Connector(configuration), configuration: configuration, timeout: configuration.timeout)
    }

    private static func check(_ configuration: Configuration) throws(SignalboxError) {
        let address = HostPort(host: configuration.host, port: configuration.port)
        guard HostPort(address.description) == address, address.port != 0 else {
            throw SignalboxError(.invalidArgument, "host and port do not name a server: \(address)")
        }
        if let tls = configuration.tls {
            guard (tls.certificateFile == nil) == (tls.keyFile == nil) else {
                throw SignalboxError(.invalidArgument, "certificateFile and keyFile are needed together")
            }
            guard !configuration.isInsecure else {
                throw SignalboxError(
                    .invalidArgument,
                    "isInsecure and tls exclude each other: isInsecure sends a token without TLS, and does not make TLS "
                        + "trust a certificate")
            }
        } else if configuration.token != nil, !configuration.isInsecure, !address.isLoopback {
            throw SignalboxError(
                .invalidArgument,
                "the token is not sent: \(address) is not on this machine, and without TLS the token could be read "
                    + "on the network: set tls, or isInsecure to send it in the clear")
        }
    }

    /// This client with another limit for each call.
    public func with(timeout: Duration) -> SignalboxClient {
        var copy = self
        copy.caller.timeout = timeout
        return copy
    }

    /// Closes the connection. Calls and watches that are open throw `unavailable`, as later ones do. Without it the
    /// connection is closed with the last copy of the client.
    public func close() async {
        await caller.connector.close()
    }

    private func call<Response: ResponseMessage>(
        _ path: String, _ request: some RequestMessage & Sendable, isSafe: Bool = true, as type: Response.Type
    ) async throws -> Response {
        do {
            return try await caller.call(path, request, isSafe: isSafe)
        } catch {
            throw SignalboxError.from(error)
        }
    }

    /// The version, features and limits of the server, and the name, scopes and users that this client has there.
    ///
    /// Call it once for each server, and look for a feature instead of comparing versions. An older server throws
    /// `unimplemented`.
    public func serverInfo() async throws -> ServerInfo {
        ServerInfo(
            try await call(
                InfoServiceMethod.getServerInfo, GetServerInfoRequest(), as: GetServerInfoResponse.self))
    }

    /// Enqueues one job.
    public func enqueue(_ request: JobRequest) async throws -> EnqueuedJob {
        let answer = try await call(
            JobServiceMethod.enqueue, EnqueueRequest(job: request.withID.draft), as: EnqueueResponse.self)
        // A job with an id that was made here was never there before: an earlier try of this call has taken effect.
        let isNew = answer.created || !request.isIdempotent
        return EnqueuedJob(answer.job, request.isIdempotent ? answer.disposition : .created, isNew: isNew)
    }

    /// Enqueues up to 10,000 jobs of 4 MiB together, all or none.
    public func enqueue(_ requests: [JobRequest]) async throws -> [EnqueuedID] {
        let answer = try await call(
            JobServiceMethod.enqueueBatch, EnqueueBatchRequest(jobs: requests.map(\.withID.draft)),
            as: EnqueueBatchResponse.self)
        guard answer.jobs.count == requests.count else {
            throw SignalboxError(
                .internalError, "the server's response does not have as many jobs as the request")
        }
        return zip(answer.jobs, requests).map {
            EnqueuedID(
                $0.jobID, sequence: $0.sequence, $1.isIdempotent ? $0.disposition : .created,
                isNew: $0.created || !$1.isIdempotent)
        }
    }

    /// A job with its attempts, log, progress and result.
    public func job(_ id: UUID, includingPayload: Bool) async throws -> Job {
        let request = GetJobRequest(jobID: "\(JobID(id))", includePayload: includingPayload)
        let answer = try await call(JobServiceMethod.getJob, request, as: GetJobResponse.self)
        return Job(answer.job, hasPayload: includingPayload)
    }

    /// One page of the jobs that match, newest first.
    public func page(
        of filter: SignalboxJobs.JobFilter, size: Int, after token: String?
    ) async throws -> Page<Job> {
        let request = ListJobsRequest(
            pageSize: size, pageToken: ExactText(token ?? ""),
            filter: JobFilterMessage(
                userID: ExactText(filter.userID ?? ""), queue: ExactText(filter.queue ?? ""),
                kinds: filter.kinds.map { ExactText($0) }, states: Set(filter.states.map(\.ofDomain)),
                labels: filter.labels.map { (key: ExactText($0.key), value: ExactText($0.value)) },
                createdFrom: filter.createdFrom.map { Timestamp($0) },
                createdTo: filter.createdTo.map { Timestamp($0) }))
        let answer = try await call(JobServiceMethod.listJobs, request, as: ListJobsResponse.self)
        return Page(answer.jobs.map { Job($0) }, nextToken: answer.nextPageToken)
    }

    /// One page of a job's attempts, oldest first.
    public func attemptPage(of id: UUID, size: Int, after token: String?) async throws -> Page<Job.Attempt> {
        let request = ListAttemptsRequest(
            jobID: "\(JobID(id))", pageSize: size, pageToken: ExactText(token ?? ""))
        let answer = try await call(JobServiceMethod.listAttempts, request, as: ListAttemptsResponse.self)
        return Page(answer.attempts.map { Job.Attempt($0) }, nextToken: answer.nextPageToken)
    }

    /// One page of the lines of a job's log that are kept, oldest first.
    public func logPage(
        of id: UUID, afterLine line: Int, minLevel level: JobLogLevel?, size: Int, after token: String?
    ) async throws -> Page<Job.LogLine> {
        let request = ListLogLinesRequest(
            jobID: "\(JobID(id))", afterLine: Int64(line), pageSize: size, pageToken: ExactText(token ?? ""),
            minLevel: level?.line)
        let answer = try await call(JobServiceMethod.listLogLines, request, as: ListLogLinesResponse.self)
        return Page(answer.lines.map { Job.LogLine($0) }, nextToken: answer.nextPageToken)
    }

    /// Cancels a job.
    public func cancel(_ id: UUID, note: String, expectedSequence sequence: Int?) async throws -> Job {
        let request = CancelRequest(
            jobID: "\(JobID(id))", note: ExactText(note), expectedSequence: try expectedSequence(sequence))
        return Job(try await call(JobServiceMethod.cancel, request, as: JobResponse.self).job)
    }

    /// Returns a failed or cancelled job to its queue.
    ///
    /// The call is made again after `unavailable` only with an expected sequence. `aborted` can then mean that an
    /// earlier try has taken effect.
    public func retry(_ id: UUID, expectedSequence sequence: Int?) async throws -> Job {
        let request = RetryRequest(jobID: "\(JobID(id))", expectedSequence: try expectedSequence(sequence))
        return Job(
            try await call(
                JobServiceMethod.retry, request, isSafe: sequence != nil, as: JobResponse.self
            ).job)
    }

    /// The changes of jobs. A lost connection is made again, also when the server has sent nothing for three
    /// heartbeats, and the watch resumes: no event is given twice, and none of a named job is left out. If the server
    /// cannot resume a watch of a user or a queue where it was cut, jobs that have changed have a snapshot instead of
    /// the events, and those that were enqueued and became final meanwhile are left out.
    ///
    /// Throws `notFound` if the watch names one job, and it does not exist.
    public func watch(_ subject: JobWatch) -> JobUpdates {
        JobUpdates { [caller] in
            let watch = RemoteWatch(subject, caller)
            return { try await watch.next() }
        }
    }
}
