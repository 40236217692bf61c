import JobModel
import Postgres
import TestDatabase
import Testing

@testable import JobStore

@Suite(.timeLimit(.minutes(2))) struct ChangesTests {
    /// Reads until there is nothing more.
    private func drain(_ store: JobStore, _ cursor: inout ChangeCursor) async throws -> [RemoteChange] {
        var all: [RemoteChange] = []
        for _ in 0..<1000 {
            let batch = try await store.changes(since: cursor, .otherNodes)
            all += batch.changes
            cursor = batch.cursor
            if !batch.hasMore { return all }
        }
        throw Missing("the feed has no end")
    }

    private func pairs(_ changes: [RemoteChange]) -> [[Int64]] { changes.map { [$0.number, $0.sequence] } }

    @Test func tellsWhatOtherNodesDid() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            var cursor = try await peer.openChanges()
            var own = try await bench.store.openChanges()
            let run = try await bench.start()
            let number = run.key.number
            #expect(pairs(try await drain(peer, &cursor)) == [[number, 1], [number, 2]])
            _ = try await bench.store.cancel(run.key.id, note: "")
            let asked = try await peer.changes(since: cursor, .otherNodes)
            #expect(asked.hasCancels && pairs(asked.changes) == [[number, 3]])
            cursor = asked.cursor
            try await bench.finish(run, .cancelled)
            _ = try await bench.store.retry(run.key.id)
            let rest = try await drain(peer, &cursor)
            #expect(pairs(rest) == [[number, 4], [number, 5]])
            #expect(rest.allSatisfy { $0.lane == run.key.lane })
            #expect(try await drain(peer, &cursor).isEmpty)
            #expect(try await drain(bench.store, &own).isEmpty)
        }
    }

    @Test func onlyCancelsWithoutAWatch() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            var cursor = try await peer.openChanges()
            let run = try await bench.start()
            var batch = try await peer.changes(since: cursor, .cancels)
            #expect(batch.changes.isEmpty && !batch.hasCancels)
            cursor = batch.cursor
            _ = try await bench.store.cancel(run.key.id, note: "")
            batch = try await peer.changes(since: cursor, .cancels)
            #expect(batch.changes.isEmpty && batch.hasCancels)
            batch = try await peer.changes(since: batch.cursor, .cancels)
            #expect(!batch.hasCancels)
        }
    }

    /// Rows of a transaction that began early and commits late.
    @Test func lateCommitIsNotMissed() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            var cursor = try await peer.openChanges()
            let late = try Connection(bench.schema.connectionConfiguration())
            let insert = """
                INSERT INTO change (node, jobs, lanes, sequences)
                VALUES (\(bench.store.nodeNumber), '{777}', '{1}', '{1}');
                """
            try late.executeScript("BEGIN; " + insert)
            var seen: [Int64] = []
            for _ in 0..<20 {
                try await bench.enqueue()
                seen += try await drain(peer, &cursor).map(\.number)
            }
            #expect(!seen.contains(777))
            try late.executeScript("COMMIT")
            try await bench.enqueue()
            seen += try await drain(peer, &cursor).map(\.number)
            #expect(seen.contains(777))
            try await bench.enqueue()
            seen += try await drain(peer, &cursor).map(\.number)
            #expect(Set(seen).count == 23 && seen.count == 23)
            #expect(try await drain(peer, &cursor).isEmpty)
        }
    }

    @Test func manyMoreThanOneRead() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            var cursor = try await peer.openChanges()
            try await bench.script(
                """
                INSERT INTO change (node, jobs, lanes, sequences)
                SELECT \(bench.store.nodeNumber), ARRAY[i], '{1}', '{1}' FROM generate_series(1, 5000) i
                """)
            #expect(try await drain(peer, &cursor).map(\.number) == Array(1...5000))
            #expect(try await drain(peer, &cursor).isEmpty)
        }
    }

    /// While any transaction of the server stays open, the feed cannot let go of what it has read.
    @Test func readToItsEndWhileATransactionStaysOpen() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            let open = try Connection(bench.schema.connectionConfiguration())
            try open.executeScript("BEGIN; SELECT pg_current_xact_id()")
            var cursor = try await peer.openChanges()
            try await bench.script(
                """
                INSERT INTO change (node, jobs, lanes, sequences)
                SELECT \(bench.store.nodeNumber), ARRAY[i], '{1}', '{1}' FROM generate_series(1, 25000) i
                """)
            var numbers: [Int64] = []
            var hasMore = true
            for _ in 0..<200 where hasMore {
                let batch = try await peer.changes(since: cursor, .otherNodes)
                numbers += batch.changes.map(\.number)
                cursor = batch.cursor
                hasMore = batch.hasMore
            }
            #expect(!hasMore)
            #expect(numbers == Array(1...25000))
            try open.executeScript("ROLLBACK")
        }
    }

    /// Four writers, one of them always late, and a reader: each event is told at least once, none before its
    /// commit.
    @Test func nothingIsMissedWhileManyWrite() async throws {
        try await Bench.with(connections: 6) { bench in
            let peer = try await bench.peer()
            var cursor = try await peer.openChanges()
            let store = bench.store
            let writers = Task {
                try await withThrowingTaskGroup(of: [Int64].self) { group in
                    for writer in 0..<3 {
                        group.addTask {
                            var numbers: [Int64] = []
                            for _ in 0..<60 {
                                let spec = JobSpec(kind: "k", userID: "u\(writer)")
                                numbers.append(
                                    try await store.enqueue(NewJob(spec: spec, now: .now)).job.number)
                            }
                            return numbers
                        }
                    }
                    group.addTask {
                        for index in 1...15 {
                            try await bench.script(
                                """
                                BEGIN; INSERT INTO change (node, jobs, lanes, sequences)
                                VALUES (\(store.nodeNumber), '{\(900_000 + index)}', '{1}', '{1}');
                                SELECT pg_sleep(0.005); COMMIT
                                """)
                        }
                        return (1...15).map { 900_000 + $0 }
                    }
                    return try await group.reduce(into: []) { $0 += $1 }
                }
            }
            var seen: Set<Int64> = []
            while seen.count < 195 {
                seen.formUnion(try await drain(peer, &cursor).map(\.number))
                if seen.count >= 195 { break }
                try await bench.script("SELECT pg_sleep(0.001)")
            }
            #expect(seen == Set(try await writers.value))
        }
    }

    /// It commits while the reading goes on whose snapshot has it under way.
    @Test func commitBetweenTwoPagesComesWithTheNextReading() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            var cursor = try await peer.openChanges()
            let late = try Connection(bench.schema.connectionConfiguration())
            func insert(_ jobs: String, count: Int) -> String {
                """
                INSERT INTO change (node, jobs, lanes, sequences)
                SELECT \(bench.store.nodeNumber), ARRAY[\(jobs)], '{1}', '{1}'
                FROM generate_series(1, \(count)) i;
                """
            }
            try late.executeScript("BEGIN; " + insert("777", count: 1))
            try await bench.script(insert("i", count: 300))
            let first = try await peer.changes(since: cursor, .otherNodes)
            #expect(first.hasMore && first.changes.count == 200)
            try late.executeScript("COMMIT")
            try await bench.script(insert("1000 + i", count: 5))
            cursor = first.cursor
            let second = try await peer.changes(since: cursor, .otherNodes)
            #expect(!second.hasMore && second.changes.map(\.number) == Array(201...300))
            cursor = second.cursor
            #expect(try await drain(peer, &cursor).map(\.number) == [777, 1001, 1002, 1003, 1004, 1005])
            #expect(try await drain(peer, &cursor).isEmpty)
        }
    }

    /// However long a reading takes, what was not read of it counts as of its beginning: it may be trimmed.
    @Test func cursorIsAsOldAsTheReading() async throws {
        try await Bench.with { bench in
            let peer = try await bench.peer()
            let opened = try await peer.openChanges()
            try await bench.script(
                """
                INSERT INTO change (node, jobs, lanes, sequences)
                SELECT \(bench.store.nodeNumber), ARRAY[i], '{1}', '{1}' FROM generate_series(1, 500) i
                """)
            let first = try await peer.changes(since: opened, .otherNodes)
            let afterFirst = ContinuousClock.now
            #expect(first.hasMore && first.cursor.takenAt == opened.takenAt)
            let second = try await peer.changes(since: first.cursor, .otherNodes)
            #expect(second.hasMore && second.cursor.takenAt == opened.takenAt)
            let last = try await peer.changes(since: second.cursor, .otherNodes)
            #expect(!last.hasMore)
            #expect(last.cursor.takenAt > opened.takenAt && last.cursor.takenAt < afterFirst)
        }
    }

    @Test func snapshotsOfPostgres() {
        let now = ContinuousClock.now
        let some = ChangeSnapshot("10:20:10,14,15", at: Timestamp(microseconds: 7), takenAt: now)
        #expect(some?.xmax == "20" && some?.xip == ["10", "14", "15"])
        let none = ChangeSnapshot("20:20:", at: Timestamp(microseconds: 7), takenAt: now)
        #expect(none?.xmax == "20" && none?.xip == [])
        for text in ["", "20", "20:20", "20::", "1:2:3:4"] {
            #expect(
                ChangeSnapshot(text, at: Timestamp(microseconds: 7), takenAt: now)?.xmax == nil, "\(text)")
        }
    }

    @Test func onlyOldChangesAreTrimmed() async throws {
        try await Bench.with { bench in
            try await bench.script(
                """
                INSERT INTO change (node, jobs, lanes, sequences, at)
                SELECT 1, ARRAY[i], '{1}', '{1}',
                    now() - CASE WHEN i <= 25000 THEN interval '1 hour' ELSE interval '1 minute' END
                FROM generate_series(1, 25010) i
                """)
            try await bench.store.trimChanges()
            #expect(try await bench.count("change") == 10)
            #expect(try await bench.count("change WHERE jobs[1] > 25000") == 10)
        }
    }

    @Test func oneNodeTrimsAtATime() async throws {
        try await Bench.with { bench in
            try await bench.enqueue()
            try await bench.script("UPDATE change SET at = at - interval '1 hour'")
            let other = try Connection(bench.schema.connectionConfiguration())
            try other.executeScript(
                "BEGIN; SELECT pg_advisory_xact_lock('change'::regclass::oid::bigint << 32)")
            try await bench.store.trimChanges()
            #expect(try await bench.count("change") == 1)
            try other.executeScript("COMMIT")
            try await bench.store.trimChanges()
            #expect(try await bench.count("change") == 0)
        }
    }

    @Test func oldChangesAreTrimmed() async throws {
        try await Bench.with { bench in
            try await bench.enqueue()
            try await bench.store.trimChanges()
            #expect(try await bench.count("change") == 1)
            try await bench.script("UPDATE change SET at = at - interval '1 hour'")
            try await bench.store.trimChanges()
            #expect(try await bench.count("change") == 0)
        }
    }
}
