import JobModel
import JobStore
import Support
import Testing

@testable import JobService

/// Pages of lists.
@Suite(.timeLimit(.minutes(2))) struct ListOperationTests {
    private func query(_ change: (inout JobListQuery) -> Void = { _ in }) -> JobListQuery {
        var query = JobListQuery()
        change(&query)
        return query
    }

    /// Page after page, each with the token of the page before.
    private func ids(
        _ bench: ServiceBench, size: Int, shortenedTo count: Int? = nil, for caller: Caller
    ) async throws -> [JobID] {
        var ids: [JobID] = []
        var query = query { $0.page.size = size }
        repeat {
            var page = try await bench.jobs.list(query, for: caller)
            if let count { try page.shorten(to: count) }
            #expect(page.items.count <= count ?? size)
            ids += page.items.map(\.id)
            query.page.token = ExactText(page.nextToken)
        } while !query.page.token.isEmpty && ids.count < 100
        return ids
    }

    @Test func everyJobIsOnOnePage() async throws {
        try await ServiceBench.with { bench in
            var added: [JobID] = []
            for number in 0..<10 { added.append(try await bench.enqueue(number % 2 == 0 ? "a" : "b").id) }
            added.reverse()
            let own = added.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            for (caller, expected) in [(Caller.root, added), (.of("a"), own), (.of("c"), [])] {
                #expect(try await ids(bench, size: 4, for: caller) == expected)
                // A page for which a message has no room ends earlier, and at least one job is on it.
                for count in [0, 1, 3] {
                    let found = try await ids(bench, size: 4, shortenedTo: max(1, count), for: caller)
                    #expect(found == expected)
                }
            }
            var page = try await bench.jobs.list(query(), for: .root)
            try page.shorten(to: 0)
            #expect(page.items.count == 1 && !page.nextToken.isEmpty)
        }
    }

    @Test func aTokenIsForItsFiltersAndItsCaller() async throws {
        try await ServiceBench.with { bench in
            for _ in 0..<4 { try await bench.enqueue("b") }
            let token = try await bench.jobs.list(query { $0.page.size = 2 }, for: .root).nextToken
            let next = query {
                $0.page.size = 2
                $0.page.token = ExactText(token)
            }
            let elsewhere = query {
                $0.queue = "q"
                $0.page.token = ExactText(token)
            }
            let refusal = ServiceError.pageTokenInvalid
            await #expect(throws: refusal) { try await bench.jobs.list(next, for: .of("b")) }
            await #expect(throws: refusal) { try await bench.jobs.list(elsewhere, for: .root) }
            #expect(try await bench.jobs.list(next, for: .root).items.count == 2)
        }
    }

    @Test func wrongFieldsAreReportedTogether() async throws {
        try await ServiceBench.with { bench in
            let found = [
                FieldViolation(
                    field: "filter.states", reason: .unknownValue, description: "has an unknown state: 9")
            ]
            let wrong = query {
                $0.page.size = -1
                $0.kinds = ["k", "not a kind"]
                $0.queue = "not a name"
            }
            let error = await #expect(throws: ServiceError.self) {
                try await bench.jobs.list(wrong, found: found, for: .root)
            }
            #expect(
                error?.fieldViolations.map(\.field) == [
                    "filter.states", "filter.queue", "filter.kinds[1]", "page_size",
                ])
        }
    }
}
