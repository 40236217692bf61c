import Foundation
import JobModel
import JobService
import JobWatch
import SignalboxJobs
import Support

/// A watch within the process, for one reader.
actor EmbeddedWatch {
    private enum State {
        /// Nothing was read. Becomes `beginning` or `ended`.
        case new
        /// The snapshot is being read. Becomes `following` or `ended`.
        case beginning(WatchBeginning, Open)
        /// Events are being read. Becomes `ended`.
        case following(Open)
        /// The watch is over. Final.
        case ended
    }

    /// Closes the watch with the last reference.
    private final class Open: Sendable {
        let watch: Watch

        init(_ watch: Watch) {
            self.watch = watch
        }

        deinit {
            watch.close()
        }
    }

    private let subject: JobWatch
    private let server: RunningServer
    private let caller: Caller
    private var state = State.new
    /// Yields an element when there is more to read.
    private let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    init(_ subject: JobWatch, of server: RunningServer, by caller: Caller) {
        self.subject = subject
        self.server = server
        self.caller = caller
        (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// The next update; nil when every named job is final. A reader that is too slow for the watch gets
    /// `aborted`.
    func next() async throws -> JobUpdate? {
        do {
            while true {
                try Task.checkCancellation()
                if case .ended = state { return nil }
                if let update = try await step() { return update }
            }
        } catch {
            state = .ended
            throw (error as? ServiceError).map { SignalboxError($0) } ?? error
        }
    }

    /// Reads on; nil if there is no update yet.
    private func step() async throws -> JobUpdate? {
        switch state {
        case .new:
            let beginning = try await server.operations().watches.begin(subject.query, by: caller)
            state = .beginning(beginning, Open(beginning.follow()))
        case .beginning(var beginning, let open):
            if let item = try await beginning.next() {
                state = .beginning(beginning, open)
                return JobUpdate(item)
            }
            open.watch.onReady { [wake] in wake.yield() }
            state = .following(open)
        case .following(let open):
            switch open.watch.nextStep() {
            case .item(let item): return JobUpdate(item)
            case .wait: for await _ in wakes { break }
            case .work(let body): try await body()
            case .end(nil): state = .ended
            case .end(let error?): throw error
            }
        case .ended: break
        }
        return nil
    }
}

extension JobWatch {
    fileprivate var query: WatchQuery {
        switch subject {
        case .jobs(let ids):
            WatchQuery(
                jobs: ids.map {
                    .init(id: "\(JobID($0))", afterSequence: Int64(max(0, sequences[$0] ?? 0)))
                }, includesLog: includesLog)
        case .all(let userID, let queue):
            WatchQuery(
                filter: .init(userID: ExactText(userID ?? ""), queue: ExactText(queue ?? "")),
                includesLog: includesLog)
        }
    }
}

extension JobUpdate {
    /// The update for an item; nil for an item that the reader has no use for.
    fileprivate init?(_ item: WatchItem) {
        switch item {
        case .snapshot(let job): self = .snapshot(Job(job))
        case .log(let id, let lines): self = .log(jobID: id.uuid, lines.map { Job.LogLine($0) })
        case .snapshotsComplete: self = .isCurrent
        case .opened, .heartbeat: return nil
        case .update(let update):
            switch update.content {
            case .event(let event): self = .event(SignalboxJobs.JobEvent(event))
            case .progress(let attempt, let progress):
                self = .progress(jobID: update.job.uuid, attempt: attempt, Job.Progress(progress))
            case .removed: self = .removed(jobID: update.job.uuid)
            }
        }
    }
}
