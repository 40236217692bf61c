import Foundation
import JobModel
import JobStore
import Logging
import Postgres
import Support
import Synchronization
import TestDatabase
import Testing

@testable import JobWatch

/// Two nodes on one schema; the change feed and the hub are those of the first.
@Suite(.timeLimit(.minutes(2))) struct WatchHubTests {
    private struct Bench: Sendable {
        let database: Database
        let store: JobStore
        let peer: JobStore
        let changes: ChangeFeed
        let hub: WatchHub
        let kinds: [Int32]

        func enqueue(by store: JobStore, user: String = "u") async throws -> JobRecord {
            try await store.enqueue(NewJob(spec: JobSpec(kind: "k", userID: ExactText(user)), now: .now)).job
        }

        func claim(by store: JobStore) async throws -> ClaimedRun {
            let claim = try await store.claim(
                ClaimRequest(slots: 1, kinds: kinds, cursor: ClaimCursor(), defaultUserLimit: 100))
            return try #require(claim.runs.first)
        }

        func succeed(_ run: ClaimedRun, by store: JobStore) async throws {
            let result = JobResult(data: [1], contentType: "x/y")
            let finished = FinishedRun(run, node: "n", verdict: .final(.succeeded, nil, result))
            #expect(try await store.finish(finished) == .written)
        }

        func script(_ sql: String) async throws {
            try await database.run("script") { connection throws(PostgresError) in
                try connection.executeScript(sql)
            }
        }

        /// As a watch does: subscribe, read, track.
        func watch(_ job: JobRecord) async throws -> Subscription {
            let subscription = hub.subscribe(to: [job.id: job.number], includesLog: true)
            let now = try #require(await store.job(job.id))
            subscription.track(job.id, delivered: now.sequence, isFinal: now.state.isFinal)
            return subscription
        }

        /// Follows a watch to its end, or to this event.
        func follow(_ subscription: Subscription, upTo last: JobEventType? = nil) async throws
            -> [JobEventType]
        {
            var types: [JobEventType] = []
            while let item = await subscription.item() {
                guard case .action(let action) = item else { continue }
                switch action {
                case .send(let update):
                    guard case .event(let event) = update.content else { continue }
                    if let type = event.type { types.append(type) }
                    if event.type == last { return types }
                case .read(let wanted):
                    let numbers = try await store.numbers(of: Array(wanted.keys))
                    let events = try await store.events(
                        after: Dictionary(
                            uniqueKeysWithValues: wanted.compactMap { id, after in
                                numbers[id].map { ($0, after) }
                            }))
                    subscription.caughtUp(
                        Dictionary(
                            uniqueKeysWithValues: wanted.keys.map { id in
                                (id, numbers[id].flatMap { events[$0] } ?? [])
                            }))
                case .end: return types
                default: break
                }
            }
            return types
        }
    }

    private func with(
        pollInterval: Duration = .milliseconds(5), lanesMax: Int = 1000,
        logger: Logger = Logger(label: "tests"), _ body: (Bench) async throws -> Void
    ) async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase(connectionCount: 4) { database in
                _ = try await Migrator.migrate(database)
                let store = JobStore(database: database, leaseDatabase: database)
                let peer = JobStore(database: database, leaseDatabase: database)
                var kinds: [Int32] = []
                for (store, name) in [(store, "one"), (peer, "two")] {
                    kinds = try await store.register(
                        NodeDescription(
                            id: UUID(), name: name, version: "1", concurrency: 1, kinds: ["k": .retry]),
                        lease: .seconds(600)
                    ).kinds.map(\.value)
                }
                // Only polling finds the changes of the other node.
                var reading = ChangeFeed.Configuration()
                reading.pollInterval = pollInterval
                let changes = ChangeFeed(store: store, configuration: reading, logger: logger)
                var configuration = WatchHub.Configuration()
                configuration.lanesMax = lanesMax
                let hub = WatchHub(
                    store: store, tokens: .test, configuration: configuration, logger: logger)
                changes.subscribe(hub)
                try await changes.open()
                let running = Task { await changes.run() }
                defer { running.cancel() }
                try await body(
                    Bench(
                        database: database, store: store, peer: peer, changes: changes, hub: hub,
                        kinds: kinds))
                running.cancel()
                await running.value
            }
        }
    }

    @Test func tellsOfThisNodesJobs() async throws {
        try await with { bench in
            let subscription = try await bench.watch(try await bench.enqueue(by: bench.store))
            try await bench.succeed(try await bench.claim(by: bench.store), by: bench.store)
            #expect(try await bench.follow(subscription) == [.started, .succeeded])
        }
    }

    @Test func tellsOfAnotherNodesJobs() async throws {
        try await with { bench in
            let subscription = try await bench.watch(try await bench.enqueue(by: bench.peer))
            try await bench.succeed(try await bench.claim(by: bench.peer), by: bench.peer)
            #expect(try await bench.follow(subscription) == [.started, .succeeded])
        }
    }

    @Test func jobThatMovesBetweenNodes() async throws {
        try await with { bench in
            let subscription = try await bench.watch(try await bench.enqueue(by: bench.peer))
            var wanted: [JobEventType] = []
            for turn in 0..<6 {
                let store = turn % 2 == 0 ? bench.store : bench.peer
                let run = try await bench.claim(by: store)
                let finished = FinishedRun(
                    run, node: "n",
                    verdict: .again(
                        .released, JobError(message: "", cause: .released), after: .zero,
                        countsAttempt: false))
                _ = try await store.finish(finished)
                wanted += [.started, .released]
            }
            try await bench.succeed(try await bench.claim(by: bench.peer), by: bench.peer)
            #expect(try await bench.follow(subscription) == wanted + [.started, .succeeded])
        }
    }

    /// A watch of a user gets each event once, whichever nodes enqueue the job, run it and end it.
    @Test func watchOfAUserHasEachEventOnce() async throws {
        try await with { bench in
            let subscription = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
            let reader = Task { () throws -> [JobEventType] in
                var all: [JobEventType] = []
                for _ in 0..<20 { all += try await bench.follow(subscription, upTo: .succeeded) }
                return all
            }
            for turn in 0..<20 {
                let stores = [bench.store, bench.peer]
                _ = try await bench.enqueue(by: stores[turn % 2], user: "u")
                let runner = stores[turn / 2 % 2]
                try await bench.succeed(try await bench.claim(by: runner), by: runner)
            }
            let all = try await reader.value
            for type: JobEventType in [.enqueued, .started, .succeeded] {
                #expect(all.count { $0 == type } == 20, "\(type)")
            }
        }
    }

    /// The cache of lanes is emptied when it is full, in the middle of a delivery too.
    @Test func laneThatLeavesTheCacheIsStillDelivered() async throws {
        try await with(lanesMax: 2) { bench in
            let subscription = bench.hub.subscribe(userID: "a", queue: nil, users: .all)
            _ = try await bench.enqueue(by: bench.peer, user: "a")
            #expect(try await bench.follow(subscription, upTo: .enqueued) == [.enqueued])
            // One row of the change log, with two lanes that are new.
            let jobs = ["a", "b", "c"].map { NewJob(spec: JobSpec(kind: "k", userID: $0), now: .now) }
            _ = try await bench.peer.enqueueBatch(jobs)
            #expect(try await bench.follow(subscription, upTo: .enqueued) == [.enqueued])
        }
    }

    /// A watch that has more jobs than it keeps positions of relies on the log: it sends each event once, though the
    /// database already has the later ones when the first is delivered.
    @Test func eventsWithoutAPositionAreSentOnce() async throws {
        try await with { bench in
            let changes = ChangeFeed(store: bench.store, logger: Logger(label: "tests"))
            let hub = WatchHub(store: bench.store, tokens: .test, logger: Logger(label: "tests"))
            changes.subscribe(hub)
            try await changes.open()
            let subscription = hub.subscribe(userID: "u", queue: nil, users: .all)
            for number in 0..<UInt64(WatchBuffer.positionsMax) {
                subscription.track(
                    .version7(milliseconds: 1, random: (0, number)), delivered: 1, isFinal: false)
            }
            _ = try await bench.enqueue(by: bench.peer, user: "other")
            let other = try await bench.claim(by: bench.peer)
            _ = try await bench.enqueue(by: bench.peer, user: "u")
            // More than one reading takes, between the first event and the others.
            for fraction in 1...250 {
                let progress = Progress(
                    stage: "", fraction: Double(fraction) / 250, message: "", done: 0, total: 0,
                    updatedAt: Timestamp(microseconds: Int64(fraction)))
                try await bench.peer.save([
                    RunUpdate(other, progress: progress, log: [])
                ])
            }
            try await bench.succeed(try await bench.claim(by: bench.peer), by: bench.peer)
            let running = Task { await changes.run() }
            defer { running.cancel() }
            #expect(
                try await bench.follow(subscription, upTo: .succeeded) == [.enqueued, .started, .succeeded])
            _ = try await bench.enqueue(by: bench.peer, user: "u")
            #expect(try await bench.follow(subscription, upTo: .enqueued) == [.enqueued])
            running.cancel()
            await running.value
        }
    }

    /// A watch of a user gets the progress of a job whose first events it gets at the same time.
    @Test func progressAmongTheFirstChangesOfAJob() async throws {
        try await with { bench in
            let hub = WatchHub(store: bench.store, tokens: .test, logger: Logger(label: "tests"))
            let subscription = hub.subscribe(userID: "u", queue: nil, users: .all)
            _ = try await bench.enqueue(by: bench.peer, user: "u")
            let run = try await bench.claim(by: bench.peer)
            try await bench.peer.save([
                RunUpdate(run, progress: Self.progress, log: [])
            ])
            let (number, lane) = (run.key.number, run.key.lane)
            try await hub.deliver([
                RemoteChange(number: number, lane: lane, sequence: 1),
                RemoteChange(number: number, lane: lane, sequence: 2),
                RemoteChange(number: number, lane: lane, sequence: 0),
            ])
            var received: [WatchUpdate.Content] = []
            while case .action(.send(let update)) = subscription.take() { received.append(update.content) }
            #expect(received.count == 3)
            #expect(received.last == .progress(attempt: 1, Self.progress))
        }
    }

    /// Without waiting for the poll.
    @Test func watchOfAUserGetsThisNodesCommits() async throws {
        try await with(pollInterval: .seconds(600)) { bench in
            let subscription = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
            for _ in 0..<3 {
                _ = try await bench.enqueue(by: bench.store)
                #expect(try await bench.follow(subscription, upTo: .enqueued) == [.enqueued])
            }
        }
    }

    @Test func watchOfAUserLeavesOthersOut() async throws {
        try await with { bench in
            let subscription = bench.hub.subscribe(userID: "b", queue: nil, users: .all)
            _ = try await bench.enqueue(by: bench.store, user: "a")
            _ = try await bench.enqueue(by: bench.peer, user: "a")
            let job = try await bench.enqueue(by: bench.store, user: "b")
            var first: JobID?
            while first == nil, let item = await subscription.item() {
                if case .action(.send(let update)) = item { first = update.job }
            }
            #expect(first == job.id)
        }
    }

    /// A watch of a queue that is limited to some users gets their events only, whatever happens to other users' jobs.
    @Test(arguments: [["b"], ["b", "c"], ["\u{E9}"]])
    func watchOfAQueueIsLimitedToUsers(_ users: [String]) async throws {
        try await with { bench in
            let subscription = bench.hub.subscribe(
                userID: nil, queue: "default", users: .only(Set(users.map(ExactText.init(_:)))))
            #expect(subscription.users == .only(Set(users.map(ExactText.init(_:)))))
            var wanted: [JobID] = []
            for user in ["a", users[0], "e\u{301}", "a", users.last ?? ""] {
                for store in [bench.store, bench.peer] {
                    let job = try await bench.enqueue(by: store, user: user)
                    if users.contains(where: { $0.hasSameBytes(as: user) }) { wanted.append(job.id) }
                    let run = try await bench.claim(by: store)
                    bench.changes.publish([.progress(run, Self.progress)])
                    try await bench.succeed(run, by: store)
                }
            }
            var ends: [JobID] = []
            while ends.count < wanted.count, let item = await subscription.item() {
                switch item {
                case .action(.send(let update)):
                    #expect(wanted.contains(update.job))
                    if case .event(let event) = update.content, event.state.isFinal {
                        ends.append(update.job)
                    }
                case .action(.read(let sequences)):
                    #expect(sequences.keys.allSatisfy(wanted.contains))
                    let numbers = try await bench.store.numbers(of: Array(sequences.keys))
                    let after = sequences.map { (numbers[$0] ?? 0, $1) }
                    let events = try await bench.store.events(after: Dictionary(uniqueKeysWithValues: after))
                    let byID = sequences.keys.map { ($0, events[numbers[$0] ?? 0] ?? []) }
                    subscription.caughtUp(Dictionary(uniqueKeysWithValues: byID))
                default: break
                }
            }
            #expect(Set(ends) == Set(wanted))
        }
    }

    /// A watch of one user takes that user's jobs only, whoever else its caller may act for.
    @Test func usersOfAWatch() async throws {
        try await with { bench in
            func includes(_ watch: Subscription, _ userID: ExactText, _ queue: String) -> Bool {
                watch.target.includes(LaneName(userID: userID, queue: queue))
            }
            let ofUser = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
            #expect(ofUser.users == .only(["u"]))
            #expect(includes(ofUser, "u", "q") && !includes(ofUser, "v", "q"))
            let spelled = bench.hub.subscribe(userID: "\u{E9}", queue: nil, users: .all)
            #expect(!includes(spelled, "e\u{301}", "q"))
            let ofQueue = bench.hub.subscribe(userID: nil, queue: "q", users: .only(["u"]))
            #expect(includes(ofQueue, "u", "q") && !includes(ofQueue, "v", "q"))
            #expect(!includes(ofQueue, "u", "p"))
        }
    }

    @Test func progressAndLogOfAnotherNode() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.peer)
            let run = try await bench.claim(by: bench.peer)
            let subscription = try await bench.watch(job)
            let line = LogLine(
                number: 1, at: Timestamp(microseconds: 1), attempt: 1, level: .info, message: "m")
            let progress = Progress(
                stage: "s", fraction: 0.5, message: "", done: 0, total: 0,
                updatedAt: Timestamp(microseconds: 1))
            try await bench.peer.save([
                RunUpdate(run, progress: progress, log: [line])
            ])
            var hasProgress = false
            var hasLog = false
            while !(hasProgress && hasLog), let item = await subscription.item() {
                if case .action(.send(let update)) = item {
                    #expect(update.content == .progress(attempt: 1, progress))
                    hasProgress = true
                }
                if case .action(.sendLog(_, let lines)) = item {
                    #expect(lines == [line])
                    hasLog = true
                }
            }
            #expect(hasProgress && hasLog)
        }
    }

    private func lines(_ numbers: ClosedRange<Int64>) -> [LogLine] {
        numbers.map {
            LogLine(number: $0, at: Timestamp(microseconds: $0), attempt: 1, level: .info, message: "m")
        }
    }

    /// A caller may say that it has any line.
    @Test func aLogLineBehindAllOthers() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.peer)
            let subscription = bench.hub.subscribe(to: [job.id: job.number], includesLog: true)
            subscription.track(job.id, delivered: 1, isFinal: false, logLine: .max)
            for isSaved in [false, true] { subscription.receive(lines(1...2), isSaved: isSaved, of: job.id) }
            guard case .action(.wait) = subscription.take() else {
                Issue.record("a line was sent that the caller has")
                return
            }
        }
    }

    /// Lines that come while the beginning of a watch reads the log are sent once, and those before them too.
    @Test func linesThatComeBeforeTheLogIsRead() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.peer)
            let subscription = bench.hub.subscribe(to: [job.id: job.number], includesLog: true)
            subscription.track(job.id, delivered: 1, isFinal: false)
            subscription.receive(lines(51...53), isSaved: true, of: job.id)
            // The log was read up to this line.
            subscription.sendsLog(of: job.id, upTo: 52)
            guard case .action(.sendLog(job.id, let sent)) = subscription.take() else {
                Issue.record("the line after the log that was read was not sent")
                return
            }
            #expect(sent.map(\.number) == [53])
        }
    }

    @Test func logsOfManyJobsOfAnotherNode() async throws {
        try await with { bench in
            var runs: [ClaimedRun] = []
            for _ in 0..<20 {
                _ = try await bench.enqueue(by: bench.peer)
                runs.append(try await bench.claim(by: bench.peer))
            }
            let numbers = Dictionary(uniqueKeysWithValues: runs.map { ($0.key.id, $0.key.number) })
            let subscription = bench.hub.subscribe(to: numbers, includesLog: true)
            for run in runs { subscription.track(run.key.id, delivered: run.sequence, isFinal: false) }
            var got: [JobID: [Int64]] = [:]
            for number: Int64 in 1...2 {
                let line = LogLine(
                    number: number, at: Timestamp(microseconds: 1), attempt: 1, level: .info, message: "m")
                try await bench.peer.save(
                    runs.map {
                        RunUpdate($0, progress: nil, log: [line])
                    })
                while got.values.joined().count < 20 * Int(number), let item = await subscription.item() {
                    guard case .action(.sendLog(let id, let lines)) = item else { continue }
                    got[id, default: []] += lines.map(\.number)
                }
            }
            let wanted: [JobID: [Int64]] = Dictionary(
                uniqueKeysWithValues: runs.map { ($0.key.id, [1, 2]) })
            #expect(got == wanted)
        }
    }

    private static func run(of job: JobRecord) -> ClaimedRun {
        ClaimedRun(
            key: JobKey(number: job.number, lane: 0, id: job.id), spec: job.spec, token: 1, attempt: 1,
            lastAttempt: 1, sequence: 2, startedAt: .now, lastLogLine: 0)
    }

    private static let progress = Progress(
        stage: "s", fraction: 0.5, message: "", done: 0, total: 0, updatedAt: Timestamp(microseconds: 1))

    /// The second watch may have read the state before the save. The first one gets the progress once only.
    @Test func watchThatBeginsBetweenReportAndSaveHasProgress() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.store)
            let run = Self.run(of: job)
            let first = try await bench.watch(job)
            bench.changes.publish([.progress(run, Self.progress)])
            let second = try await bench.watch(job)
            bench.changes.publish([.progress(run, Self.progress, isSaved: true)])
            bench.changes.publish([.progress(run, Self.progress, isSaved: true)])
            for subscription in [first, second] {
                let update = subscription.update()
                #expect(update == WatchUpdate(of: job.id, attempt: 1, Self.progress))
                let more = subscription.update()
                #expect(more == nil)
            }
        }
    }

    /// From the store's notice or from the change log, whichever comes first; and once.
    @Test func watchOfAUserThatBeginsBetweenReportAndSaveHasProgress() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.store)
            let run = try await bench.claim(by: bench.store)
            bench.changes.publish([.progress(run, Self.progress)])
            let subscription = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
            subscription.track(job.id, delivered: run.sequence, isFinal: false)
            try await bench.store.save([
                RunUpdate(run, progress: Self.progress, log: [])
            ])
            var all: [WatchUpdate] = []
            while all.last?.sequence != run.sequence + 1, let item = await subscription.item() {
                guard case .action(.send(let update)) = item else { continue }
                all.append(update)
                // The end drops progress that is still to be read from the log.
                if update.isProgress { try await bench.succeed(run, by: bench.store) }
            }
            #expect(all.dropLast() == [WatchUpdate(of: job.id, attempt: 1, Self.progress)])
        }
    }

    /// The last report on this node is lost with its lease, and the next one comes from a node whose clock is behind.
    @Test func progressOfARunThatMovesToAnotherNodeComesOnce() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.store)
            let run = try await bench.claim(by: bench.store)
            let subscription = try await bench.watch(job)
            var late = Self.progress
            late.updatedAt = Timestamp(microseconds: 1_000_000)
            bench.changes.publish([.progress(run, late)])
            #expect(subscription.update() == WatchUpdate(of: job.id, attempt: 1, late))
            let finished = FinishedRun(
                run, node: "n",
                verdict: .again(
                    .released, JobError(message: "", cause: .released), after: nil, countsAttempt: false))
            _ = try await bench.store.finish(finished)
            let next = try await bench.claim(by: bench.peer)
            #expect(try await bench.follow(subscription, upTo: .started) == [.released, .started])
            try await bench.peer.save([
                RunUpdate(next, progress: Self.progress, log: [])
            ])
            var found: WatchUpdate?
            while found == nil, let item = await subscription.item() {
                if case .action(.send(let update)) = item { found = update }
            }
            #expect(found == WatchUpdate(of: job.id, attempt: next.attempt, Self.progress))
            // This node heard of the save of the first run after all.
            bench.changes.publish([.progress(run, late, isSaved: true)])
            #expect(subscription.update() == nil)
        }
    }

    @Test func progressGoesToTheWatchesOfItsUserAndQueue() async throws {
        try await with { bench in
            let watches = ["u", "v", "w"].map { bench.hub.subscribe(userID: $0, queue: nil, users: .all) }
            let job = try await bench.enqueue(by: bench.store)
            let run = try await bench.claim(by: bench.store)
            #expect(try await bench.follow(watches[0], upTo: .started) == [.enqueued, .started])
            let recipients = bench.hub.state.withLock {
                $0.recipients(of: job.number, in: LaneName(run.spec)).others
            }
            #expect(recipients.count == 1 && recipients.first === watches[0])
        }
    }

    /// The database was restored, and has given the number of a run that is still reporting to another user's job.
    @Test func whatALostRunReportsIsNotToldOfAnotherJob() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.store)
            let watch = try await bench.watch(job)
            let ofUser = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
            let lost = ClaimedRun(
                key: JobKey(number: job.number, lane: 1, id: JobID(UUID())),
                spec: JobSpec(kind: "k", userID: "other"), token: 1, attempt: 1, lastAttempt: 1, sequence: 2,
                startedAt: .now, lastLogLine: 0)
            let line = LogLine(number: 1, at: .now, attempt: 1, level: .info, message: "other's")
            bench.changes.publish([
                .progress(lost, Self.progress), .progress(lost, Self.progress, isSaved: true),
                .log(lost.key, [line], isSaved: true), .event(lost.startedEvent(node: "n"), lost.key),
            ])
            #expect(watch.update() == nil && ofUser.update() == nil)
            bench.changes.publish([.progress(Self.run(of: job), Self.progress)])
            #expect(watch.update()?.job == job.id)
        }
    }

    @Test func watchIsClosedAfterTheEnd() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.store)
            let watches = [
                try await bench.watch(job), bench.hub.subscribe(userID: "u", queue: nil, users: .all),
            ]
            bench.hub.end()
            #expect(bench.hub.interest == .cancels)
            let late = try await bench.watch(job)
            for watch in watches + [late] {
                #expect(await watch.item() == nil)
                watch.unsubscribe()
            }
        }
    }

    @Test func closedWatchLeavesTheOthers() async throws {
        try await with { bench in
            let job = try await bench.enqueue(by: bench.store)
            let run = Self.run(of: job)
            var watches: [Subscription] = []
            for _ in 0..<3 { watches.append(try await bench.watch(job)) }
            watches[1].unsubscribe()
            bench.changes.publish([.progress(run, Self.progress)])
            #expect(watches.map { $0.update() != nil } == [true, false, true])
            watches[0].unsubscribe()
            watches[2].unsubscribe()
            let last = try await bench.watch(job)
            bench.changes.publish([.progress(run, Self.progress)])
            #expect(last.update() != nil)
        }
    }

    /// An event whose type only a newer version knows ends the watches that include its job. All others go on, and the log
    /// has one line, however many such events there are.
    @Test func eventOfANewerVersionEndsOnlyItsWatches() async throws {
        let lines = LogLines()
        try await with(logger: lines.logger) { bench in
            try await bench.script("ALTER TYPE event_type ADD VALUE 'unblocked'")
            let other = bench.hub.subscribe(userID: "v", queue: nil, users: .all)
            // One that has the job already, and one that has never heard of it.
            for isKnown in [true, false] {
                let early = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
                let job = try await bench.enqueue(by: bench.peer)
                #expect(try await bench.follow(early, upTo: .enqueued) == [.enqueued])
                let watch = isKnown ? early : bench.hub.subscribe(userID: "u", queue: nil, users: .all)
                try await bench.script(
                    """
                    INSERT INTO history (number, sequence, type, attempt, at)
                    VALUES (\(job.number), 2, 'unblocked', 0, now());
                    UPDATE live SET sequence = 2 WHERE number = \(job.number);
                    INSERT INTO change (node, jobs, lanes, sequences)
                    SELECT \(bench.peer.nodeNumber), ARRAY[number], ARRAY[lane], ARRAY[2::bigint]
                    FROM live WHERE number = \(job.number)
                    """)
                let error = await #expect(throws: StoreError.self) { _ = try await bench.follow(watch) }
                #expect("\(error.map { "\($0)" } ?? "")".contains("event type \\\"unblocked\\\""))
                early.unsubscribe()
                if !isKnown { watch.unsubscribe() }
                _ = try await bench.enqueue(by: bench.peer, user: "v")
                #expect(try await bench.follow(other, upTo: .enqueued) == [.enqueued])
            }
            #expect(lines.all.filter { $0.contains("unblocked") }.count == 1, "\(lines.all)")
            #expect(!lines.all.contains { $0.contains("could not read") }, "\(lines.all)")
        }
    }

    /// A line whose level only a newer version knows is left out, and the log goes on behind it.
    @Test func logLineOfANewerVersionIsLeftOut() async throws {
        let lines = LogLines()
        try await with(logger: lines.logger) { bench in
            let job = try await bench.enqueue(by: bench.peer)
            let subscription = try await bench.watch(job)
            for line in [1, 3] {
                try await bench.script(
                    """
                    INSERT INTO log_line (number, line, at, attempt, level, message) VALUES
                        (\(job.number), \(line), now(), 1, 'audit', 'm'),
                        (\(job.number), \(line + 1), now(), 1, 'info', 'm');
                    INSERT INTO change (node, jobs, lanes, sequences)
                    SELECT \(bench.peer.nodeNumber), ARRAY[number], ARRAY[lane], ARRAY[0::bigint]
                    FROM live WHERE number = \(job.number)
                    """)
                var received: [Int64] = []
                while received.isEmpty, let item = await subscription.item() {
                    if case .action(.sendLog(_, let log)) = item { received = log.map(\.number) }
                }
                #expect(received == [Int64(line) + 1])
            }
            #expect(lines.all.filter { $0.contains("audit") }.count == 1, "\(lines.all)")
        }
    }

    @Test func endOfTheHubEndsWatches() async throws {
        try await with { bench in
            let subscription = try await bench.watch(try await bench.enqueue(by: bench.store))
            async let item = subscription.item()
            bench.hub.end()
            let last = await item
            #expect(last == nil)
            let late = bench.hub.subscribe(userID: "u", queue: nil, users: .all)
            let nothing = await late.item()
            #expect(nothing == nil)
        }
    }
}

extension Subscription {
    /// What it has to tell at once; nil: nothing.
    fileprivate func update() -> WatchUpdate? {
        if case .action(.send(let update)) = take() { update } else { nil }
    }

    /// The next thing to do, waited for; nil: the hub has ended.
    fileprivate func item() async -> Item? {
        let (wakes, wake) = AsyncStream<Void>.makeStream()
        setWaker { wake.yield() }
        while true {
            switch take() {
            case .over: return nil
            case .action(.wait): for await _ in wakes { break }
            case let item: return item
            }
        }
    }
}

@Suite struct SubscriptionTokenTests {
    /// A token costs more than a few events that are repeated. Progress is not in it.
    @Test func aTokenIsMadeAfterManyEvents() async throws {
        try await TestDatabase.withSchema { schema in
            try await schema.withDatabase { database in
                let store = JobStore(database: database, leaseDatabase: database)
                let hub = WatchHub(store: store, tokens: .test, logger: Logger(label: "tests"))
                let job = JobID.version7(milliseconds: 1, random: (0, 1))
                let watch = hub.subscribe(to: [job: 1], includesLog: false)
                watch.track(job, delivered: 2, isFinal: false)
                #expect(watch.resumeToken(at: nil) != nil)
                let progress = Progress(
                    stage: "", fraction: 0.5, message: "", done: 0, total: 0,
                    updatedAt: Timestamp(microseconds: 1))
                func send(_ update: WatchUpdate) {
                    watch.receive(update)
                    guard case .action(.send(update)) = watch.take() else {
                        Issue.record("the update was not sent")
                        return
                    }
                }
                for sequence in 3...17 { send(WatchUpdate(WatchBufferTests.event(Int64(sequence), of: job))) }
                send(WatchUpdate(of: job, attempt: 1, progress))
                #expect(watch.resumeToken() == nil)
                send(WatchUpdate(WatchBufferTests.event(18, of: job)))
                #expect(watch.resumeToken() != nil)
                #expect(watch.resumeToken() == nil)
                watch.unsubscribe()
            }
        }
    }
}
