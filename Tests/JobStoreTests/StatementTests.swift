import Foundation
import JobModel
import Postgres
import Support
import TestDatabase
import Testing

@testable import JobStore

/// Every statement of the store is accepted by the server, with the parameters that it declares.
@Suite struct StatementTests {
    private static let caller = Caller(name: "", source: .token, address: "", users: .all)
    private static let id = JobID.version7(at: .now)
    private static let jobs = InsertJobs(
        node: .none, jobs: [], names: JobNames([], []), digests: [], callers: JobCallers([]), offer: nil)
    private static let list = ListJobs(
        users: .all, queue: nil, kinds: [], states: [], labels: nil, createdFrom: nil, createdTo: nil,
        before: 1,
        scannedMax: 1, size: 1, share: 1)
    private static let snapshot = SnapshotJobs(
        users: .all, queue: nil, after: 0, scannedMax: 1, size: 1, lanesMax: 1)
    private static let pending = CountPending(users: [], jobsMax: 1)
    private static let limits = ListUserLimits(users: .all, queue: nil, after: 0, size: 1)
    private static let paused = SetPaused(queue: "q", caller: caller)

    private static let parameterized = [
        Planned(InsertJobs.insert, jobs), Planned(InsertJobs.insertFresh, jobs),
        Planned(InsertJobs.start, jobs),
        Planned(InsertJobs.startFresh, jobs), Planned(FindExisting([])),
        Planned(LockLanesOfNewJobs(lanes: [])),
        Planned(TrimAudit(retentionMilliseconds: 1, countMax: 1)),
        Planned(
            LockLanes(after: 0, lanesMax: 1, defaultUserLimit: 1, node: .none, kinds: [], scannedMax: 1)),
        Planned(
            ClaimRuns(
                node: 1, kinds: [], lanes: [], userLimits: [], firstKinds: [], lastKinds: [], slots: 1,
                share: 1)),
        Planned(FinishRuns([], node: 1)), Planned(ReturnRuns([], node: 1)),
        Planned(CancelJob(node: 1, id: id, note: "", expectedSequence: 0, caller: caller)),
        Planned(RetryJob(node: 1, id: id, expectedSequence: 0, caller: caller)),
        Planned(
            SaveProgress(
                node: 1, numbers: [], tokens: [], startedAts: [], attempts: [], stages: [], fractions: [],
                messages: [],
                done: [], totals: [], step: [], steps: [], updatedAt: [])),
        Planned(
            SaveLog(
                node: 1, numbers: [], tokens: [], startedAts: [], lines: [], times: [], attempts: [],
                levels: [], messages: []
            )),
        Planned(TrimLog(numbers: [], tokens: [], startedAts: [], firstLines: [])),
        Planned(SaveCheckpoint(run: RunFence(number: 1, token: 1, startedAt: .now), data: [])),
        Planned(FindJobs(ids: [], resultBytesMax: 1, users: .all)),
        Planned(FindNumbers(ids: [], users: .all)), Planned(FindSequences(numbers: [])),
        Planned(FindPayload(id: id)), Planned(FindEvents(after: [:])),
        Planned(FindEvents.last, FindEvents(after: [:])), Planned(FindLogs([])),
        Planned(FindProgress(numbers: [])), Planned(ListJobs.all, list), Planned(ListJobs.ofUser, list),
        Planned(ListJobs.ofUsers, list), Planned(SnapshotJobs.ofUsers, snapshot),
        Planned(SnapshotJobs.ofQueue, snapshot), Planned(LiveJobs(numbers: [])),
        Planned(CountPending.jobs, pending), Planned(CountPending.jobsAndBytes, pending),
        Planned(FindPayloadSize(id: id, users: .all)),
        Planned(AnnounceKinds(node: .none, kinds: [], concurrency: 1, policies: [])),
        Planned(
            RegisterNode(
                id: UUID(), name: "", version: "", concurrency: 1, kinds: [], leaseMilliseconds: 1)),
        Planned(SetInterruption(kinds: [], policies: [])),
        Planned(RenewNode(node: .none, leaseMilliseconds: 1, kinds: [], names: [])),
        Planned(
            ReadChanges(
                xmax: "1", xip: [], untilXmax: "2", untilXip: [], afterXID: 0, afterID: 0, node: 1,
                includesJobs: true, includesOwn: true, anchorID: 0, anchorAt: nil, countMax: 1)),
        Planned(TrimChanges(keptMilliseconds: 1, countMax: 1)), Planned(FindLaneNames(ids: [])),
        Planned(Notify(channel: "c", payload: "")),
        Planned(FindCancels(node: 1)), Planned(FindStrays(node: 1, known: KnownRuns([]))),
        Planned(FindGhosts(node: 1, known: KnownRuns([]))), Planned(CountPeers(node: 1)),
        Planned(EndNode(node: .none)), Planned(FindOrphans(policies: [])),
        Planned(FindUnknownPolicies(policies: [])),
        Planned(PromoteDue(countMax: 1)), Planned(FindQueue(name: "")),
        Planned(ListQueues(after: 0, size: 1)), Planned(CountQueues(queues: [], lanesMax: 1, scannedMax: 1)),
        Planned(ListNodes(users: .all, before: 1, size: 1)),
        Planned(FindEvents.attempts, FindEvents(after: [:])),
        Planned(FindLogPage(number: 1, id: id, after: 0, levels: nil, size: 1)),
        Planned(ListUserLimits.all, limits), Planned(ListUserLimits.ofUsers, limits),
        Planned(SetPaused.pause, paused), Planned(SetPaused.resume, paused),
        Planned(SetQueueLimit(queue: "", limit: 1, caller: caller)),
        Planned(SetUserLimit(queue: "", userID: "", limit: 1, caller: caller)),
        Planned(GetUserLimit(userID: "", queue: "", defaultLimit: 1)), Planned(AddQueues(names: [])),
        Planned(AddLanes(queues: [], users: [])), Planned(FindLanes(queues: [], users: [])),
        Planned(CountLanes(users: [], countMax: 1)), Planned(AddKinds(names: [])),
        Planned(FindKinds(names: [])),
        Planned(AddSecret(name: "", value: [])), Planned(GetSecret(name: "")),
        Planned(RemoveFinished(retentionMilliseconds: 1, countMax: 1)),
        Planned(RemoveNodes(retentionMilliseconds: 1)),
    ]

    @Test func everyStatementFitsTheSchema() async throws {
        try await Bench.with { bench in
            let connection = try Connection(bench.schema.connectionConfiguration())
            try connection.executeScript("SET signalbox.locked_lanes = '1'")
            for statement in Self.parameterized {
                try connection.executeScript(statement.prepare)
                // The server takes the values that are bound, and plans the statement.
                #expect(try !statement.plan(connection).isEmpty, "\(statement.name)")
            }
        }
    }

    /// No statement with parameters is missing above.
    @Test func everyStatementIsTested() throws {
        let sources = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../Sources/JobStore")
        var names: Set<String> = []
        for file in try FileManager.default.subpathsOfDirectory(atPath: sources.path)
        where file.hasSuffix(".swift") {
            let text = try String(contentsOf: sources.appending(path: file), encoding: .utf8)
            for found in text.matches(of: /ParameterizedStatement<Self>\(\s*"(\w+)"/) {
                names.insert(String(found.1))
            }
        }
        #expect(names.count > 50)
        #expect(names == Set(Self.parameterized.map(\.name)))
    }
}
