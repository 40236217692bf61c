import JobStore
import Testing

@Suite struct SecretTests {
    @Test func everyNodeHasTheSame() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            let all = try await withThrowingTaskGroup(of: [UInt8].self) { group in
                for index in 0..<20 {
                    group.addTask { try await (index % 2 == 0 ? bench.store : peer).secret("tests") }
                }
                return try await group.reduce(into: Set<[UInt8]>()) { $0.insert($1) }
            }
            #expect(all.count == 1 && all.first?.count == 32)
            #expect(try await bench.store.secret("tests") == all.first)
            #expect(try await bench.store.secret("others") != all.first)
        }
    }

    @Test func itStays() async throws {
        try await Bench.with { bench in
            _ = try await bench.store.secret("tests")
            let update = "UPDATE secret SET value = sha256('')"
            #expect(try await bench.refusal(of: update)?.state == "23000")
            let short = "INSERT INTO secret VALUES ('short', 'x')"
            #expect(try await bench.refusal(of: short)?.state == "23514")
        }
    }
}
