import JobModel
import JobStore
import Support
import Testing

@testable import JobService

/// Queues, nodes and limits.
@Suite(.timeLimit(.minutes(2))) struct AdminOperationTests {
    /// All items, page after page.
    private func all<Item>(
        size: Int, _ read: (PageRequest) async throws(ServiceError) -> ListPage<Item>
    ) async throws -> [Item] {
        var items: [Item] = []
        var request = PageRequest(size: size)
        repeat {
            let page = try await read(request)
            #expect(page.items.count <= size)
            items += page.items
            request.token = ExactText(page.nextToken)
        } while !request.token.isEmpty && items.count < 100
        return items
    }

    @Test func queues() async throws {
        try await ServiceBench.with { bench in
            let admin = bench.admin
            await #expect(throws: ServiceError.queueNotFound("q")) { try await admin.queue("q") }
            // There is nothing to resume.
            await #expect(throws: ServiceError.queueNotFound("q")) {
                try await admin.resume(queue: "q", by: .root)
            }
            for _ in 0..<2 {
                #expect(
                    try await admin.pause(queue: "q", by: .root) == QueueRecord(name: "q", isPaused: true))
            }
            #expect(try await admin.queue("q").isPaused)
            for _ in 0..<2 {
                #expect(
                    try await admin.resume(queue: "q", by: .root) == QueueRecord(name: "q", isPaused: false))
            }
            try await bench.enqueue("a") { $0.queue = "b" }
            try await bench.enqueue("a") { $0.queue = "c" }
            for size in [1, 2, 5] {
                let found = try await all(size: size) { page throws(ServiceError) in
                    try await admin.queues(page, for: .root)
                }
                #expect(found.map(\.name) == ["b", "c", "q"] && found.allSatisfy { $0.stats == nil })
            }
            let counted = try await admin.queues(stats: true, for: .root).items
            #expect(counted.map { $0.stats?.pending } == [1, 1, 0])
            #expect(counted.map { $0.stats?.queue } == ["b", "c", "q"])
            #expect(try await admin.queue("b", stats: true).stats?.pending == 1)
            let error = await #expect(throws: ServiceError.self) {
                try await admin.queues(PageRequest(size: -1), for: .root)
            }
            #expect(error?.fieldViolations.map(\.field) == ["page_size"])
        }
    }

    @Test func nodes() async throws {
        try await ServiceBench.with { bench in
            for size in [1, 2, 1001] {
                let found = try await all(size: size) { page throws(ServiceError) in
                    try await bench.admin.nodes(page, for: .root)
                }
                #expect(found.map(\.name) == ["two", "one"])
            }
            let token = try await bench.admin.nodes(PageRequest(size: 1), for: .root).nextToken
            await #expect(throws: ServiceError.pageTokenInvalid) {
                try await bench.admin.nodes(PageRequest(token: ExactText(token)), for: .of("a"))
            }
            await #expect(throws: ServiceError.pageTokenInvalid) {
                try await bench.admin.queues(PageRequest(token: ExactText(token)), for: .root)
            }
        }
    }

    private func change(
        _ bench: ServiceBench, _ maxRunning: Int?, mask: [ExactText] = [], userID: ExactText = "a",
        queue: ExactText = "q", by caller: Caller = .root
    ) async throws(ServiceError) -> UserLimit {
        try await bench.admin.updateUserLimit(
            UserLimitChange(userID: userID, queue: queue, maxRunning: maxRunning, mask: mask), by: caller)
    }

    @Test func aLimitIsSetAndRemoved() async throws {
        try await ServiceBench.with { bench in
            let caller = Caller.of("a")
            #expect(try await bench.admin.userLimit(userID: "a", for: caller).maxRunning == 3)
            let steps: [(Int?, [ExactText], Int, Bool)] = [
                (7, [], 7, true), (0, [], 0, true), (5, ["max_running"], 5, true),
                (nil, ["max_running"], 3, false), (nil, ["max_running"], 3, false),
                (100_000, ["max_running", "max_running"], 100_000, true),
            ]
            for (maxRunning, mask, applies, isOverridden) in steps {
                let limit = try await change(bench, maxRunning, mask: mask, by: caller)
                #expect(limit.maxRunning == applies && limit.isOverridden == isOverridden)
                #expect(limit.userID == "a" && limit.queue == "q")
                #expect(try await bench.admin.userLimit(userID: "a", queue: "q", for: caller) == limit)
            }
            #expect(try await bench.count("audit WHERE action = 'set_user_limit'") == 5)
        }
    }

    @Test func wrongChangesOfALimit() async throws {
        try await ServiceBench.with { bench in
            func refusal(
                _ maxRunning: Int?, mask: [ExactText] = [], userID: ExactText = "a"
            ) async -> ServiceError? {
                await #expect(throws: ServiceError.self) {
                    try await change(bench, maxRunning, mask: mask, userID: userID)
                }
            }
            for maxRunning in [-1, 100_001] {
                let error = await refusal(maxRunning)
                #expect(error?.fieldViolations.map(\.field) == ["limit.max_running"])
                #expect(error?.fieldViolations.map(\.reason) == [.outOfRange])
            }
            let nothing = await refusal(nil)
            #expect(
                nothing?.fieldViolations.map(\.reason) == [.required] && nothing?.reason == .fieldsInvalid)
            #expect(await refusal(1, userID: "")?.fieldViolations.map(\.field) == ["limit.user_id"])
            for path in ["running", "limit.max_running", "*", ""] as [ExactText] {
                let error = await refusal(1, mask: ["max_running", path])
                #expect(error == .maskInvalid(field: "update_mask.paths[1]", allowed: "max_running"))
                #expect(error?.reason == .maskInvalid)
            }
            let limits = try await bench.count("lane WHERE user_limit IS NOT NULL")
            #expect(limits == 0)
        }
    }

    @Test func limitsThatWereSet() async throws {
        try await ServiceBench.with { bench in
            // The order in which they are set is not the order of the list.
            for (user, queue) in [("b", "q"), ("a", "z"), ("a", "c"), ("c", "q"), ("b", "a")] {
                _ = try await change(bench, 2, userID: ExactText(user), queue: ExactText(queue))
            }
            _ = try await change(bench, nil, mask: ["max_running"], userID: "c", queue: "q")
            // Users without a limit of their own are not listed.
            try await bench.enqueue("d")
            func list(
                _ size: Int, user: ExactText = "", queue: ExactText = "", for caller: Caller = .root
            ) async throws -> [String] {
                try await all(size: size) { page throws(ServiceError) in
                    try await bench.admin.userLimits(userID: user, queue: queue, page, for: caller)
                }.map { "\($0.userID)\($0.queue)\($0.maxRunning)\($0.isOverridden ? "" : "?")" }
            }
            for size in [1, 2, 3, 10] {
                #expect(try await list(size) == ["ac2", "az2", "ba2", "bq2"])
                #expect(try await list(size, user: "a") == ["ac2", "az2"])
                #expect(try await list(size, queue: "q") == ["bq2"])
                #expect(try await list(size, user: "a", queue: "q") == [])
                #expect(try await list(size, for: .of("b", "c")) == ["ba2", "bq2"])
                #expect(try await list(size, for: .of("a", "b")) == ["ac2", "az2", "ba2", "bq2"])
                #expect(try await list(size, for: .of("none")) == [])
            }
            let token = try await bench.admin.userLimits(PageRequest(size: 1), for: .root).nextToken
            await #expect(throws: ServiceError.pageTokenInvalid) {
                try await bench.admin.userLimits(
                    userID: "a", PageRequest(token: ExactText(token)), for: .root)
            }
        }
    }
}
