import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import GRPC
import Settings
import Support

/// Follows a watch, and reconnects when a connection ends.
struct Watcher {
    /// The time without a message after which the watch is given up.
    static let patience = Duration.seconds(300)

    let target: ClientSettings
    var session: WatchSession
    let printer: WatchPrinter
    /// Whether the server was reached before. Until then, the first failure ends the watch.
    var wasReached = false

    private var retry = WatchRetry(
        SignalboxClient.Retry(initialDelay: .milliseconds(200), maxDelay: .seconds(5)), patience: patience,
        renewsToken: false, now: .now)

    init(target: ClientSettings, session: WatchSession, printer: WatchPrinter, wasReached: Bool = false) {
        self.target = target
        self.session = session
        self.printer = printer
        self.wasReached = wasReached
    }

    /// Returns when every named job is final. Throws the exit code `jobFailed` when one has not succeeded.
    mutating func run() async throws {
        let ticker = await printer.startTicking()
        defer { ticker?.cancel() }
        do {
            try await connectUntilOver()
        } catch {
            try? await printer.finish()
            throw error
        }
        try await printer.finish()
        if session.hasFailures { throw ExitCode.jobFailed }
    }

    private mutating func connectUntilOver() async throws {
        while true {
            do {
                if try await follow() { return }
                try await pause(Status(.unavailable, "the server has ended the watch"))
            } catch let status as Status {
                // The last event may have arrived before the connection was lost.
                if session.isOver { return }
                let isRefused = session.dropToken(refusedBy: status)
                try await pause(isRefused ? Status(.unavailable, status.message) : status)
            }
        }
    }

    /// Waits before the next connection, or throws the status if another attempt would fail in the same way.
    private mutating func pause(_ status: Status) async throws {
        guard wasReached, let delay = retry.delay(after: status, now: .now) else { throw status }
        try await printer.note("\(status.explanation[0]); trying again in \(delay.brief)")
        try await Task.sleep(for: delay)
    }

    /// Follows the watch on one connection. Returns whether the watch is over.
    private mutating func follow() async throws -> Bool {
        let service = try await Service.connect(target)
        do {
            let isOver = try await read(service)
            await service.close()
            return isOver
        } catch {
            await service.close()
            throw error
        }
    }

    private mutating func read(_ service: Service) async throws -> Bool {
        retry.connects()
        let stream = WatchStream(
            try await service.client.serverStreaming(
                JobServiceMethod.watch, session.request().encode(), metadata: service.metadata))
        while let bytes = try await stream.next() {
            wasReached = true
            let response = try WatchResponse.decodeAnswer(bytes)
            retry.receives(response.event, now: .now)
            if let update = session.receive(response) {
                try await printer.show(update, bytes: update == response.event ? bytes : nil)
            }
            switch response.event {
            case .opened:
                session.heartbeatInterval.map(stream.expectHeartbeats)
                if session.mustReconnect { throw WatchSession.notResumed }
            case .snapshotsComplete:
                if case .all = session.subject { try await lookUpMissing(service) }
            default: break
            }
        }
        guard case .jobs = session.subject else { return false }
        try await lookUpMissing(service)
        return session.isOver
    }

    private mutating func lookUpMissing(_ service: Service) async throws {
        for id in session.unaccounted() {
            let job: JobRecord?
            do {
                job = try await service.getJob(id).message.job
            } catch let status as Status where status.code == .notFound {
                job = nil
            }
            if let update = session.account(for: id, job) { try await printer.show(update) }
        }
    }
}
