import Foundation
import SignalboxTesting
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(3))) struct HandlerTestTests {
    /// Counts to `to`, saving each number, until it is asked to wrap up.
    private struct Count: JobHandler {
        static let kind = "count"
        let timeout: Duration = .seconds(60)
        let softTimeout: Duration? = .seconds(30)

        struct Input: Codable, Sendable {
            var to: Int
            var waits = false
        }

        func run(_ input: Input, context: JobContext) async throws -> [Int] {
            let start = try context.checkpoint(as: Int.self) ?? 0
            guard start <= input.to else {
                throw JobFailure.retry("too far", reason: "far", after: .seconds(5), details: "from \(start)")
            }
            var numbers: [Int] = []
            for number in start..<input.to {
                numbers.append(number)
                context.report(step: number + 1, of: input.to, message: "at \(number)", stage: "counting")
                try await context.saveCheckpoint(number + 1)
            }
            context.log("attempt \(context.attempt) of \(context.userID)", level: .warning)
            if input.waits { try await context.softTimeoutReached() }
            return numbers
        }
    }

    private struct Bytes: RawJobHandler {
        static let kind = "bytes"
        let timeout: Duration = .seconds(600)
        var count = 0

        func run(payload: JobPayload, context: JobContext) async throws -> JobPayload {
            if count > 0 { return JobPayload(repeatElement(0, count: count), contentType: "x/y") }
            return JobPayload(payload.data.reversed(), contentType: payload.contentType)
        }
    }

    @Test func whatAHandlerSaysIsKept() async throws {
        var test = HandlerTest(Count())
        test.userID = "ada"
        let outcome = try await test.run(.init(to: 2))
        #expect(try outcome.result(as: [Int].self) == [0, 1])
        #expect(outcome.reports.map(\.fraction) == [0.5, 1] && outcome.reports.map(\.done) == [1, 2])
        #expect(outcome.reports.map(\.message) == ["at 0", "at 1"] && outcome.reports[0].stage == "counting")
        #expect(outcome.log.map(\.message) == ["attempt 1 of ada"] && outcome.log[0].level == .warning)
        #expect(outcome.checkpoints.count == 2)
        #expect(try outcome.checkpoint(as: Int.self) == 2)
    }

    @Test func anAttemptGoesOnFromTheCheckpointOfAnother() async throws {
        var test = HandlerTest(Count())
        test.checkpoint = try await test.run(.init(to: 1)).checkpoints.last
        test.attempt = 2
        let outcome = try await test.run(.init(to: 3))
        #expect(try outcome.result(as: [Int].self) == [1, 2])
        #expect(outcome.log.map(\.message) == ["attempt 2 of user"])
    }

    @Test func aFailureIsWhatTheUserWouldRead() async throws {
        var test = HandlerTest(Count())
        test.checkpoint = Data("9".utf8)
        let outcome = try await test.run(.init(to: 1))
        #expect(outcome.failure == .retry("too far", reason: "far", after: .seconds(5), details: "from 9"))
        #expect(throws: JobFailure.self) { try outcome.result(as: [Int].self) }
    }

    @Test func aPayloadOfAnotherShapeIsBadInput() async {
        let outcome = await HandlerTest(Count()).run(payload: JobPayload(Data("[]".utf8), contentType: "x"))
        #expect(outcome.failure?.reason == "bad_input" && outcome.failure?.isPermanent == true)
    }

    @Test func aCheckpointOfAnotherShapeIsTheHandlersError() async throws {
        var test = HandlerTest(Count())
        test.checkpoint = Data(#""one""#.utf8)
        let outcome = try await test.run(.init(to: 1))
        #expect(throws: CheckpointError.self) { try outcome.result.get() }
        #expect(outcome.failure == nil)
    }

    @Test func theSoftTimeoutComesWhenTheTestSaysSo() async throws {
        let attempt = try HandlerTest(Count()).start(.init(to: 1, waits: true))
        for await _ in attempt.reports { break }
        attempt.reachSoftTimeout()
        #expect(try await attempt.outcome.result(as: [Int].self) == [0])
    }

    @Test func anAttemptCanBeCancelled() async throws {
        let attempt = try HandlerTest(Count()).start(.init(to: 1, waits: true))
        for await report in attempt.reports where report.done == 1 { break }
        attempt.cancel()
        let outcome = await attempt.outcome
        #expect(throws: CancellationError.self) { try outcome.result.get() }
        #expect(outcome.reports.count == 1)
    }

    @Test func bytesAndTheirLimit() async throws {
        let payload = JobPayload([1, 2], contentType: "a/b")
        let outcome = await HandlerTest(Bytes()).run(payload: payload)
        #expect(try outcome.result.get() == JobPayload([2, 1], contentType: "a/b"))
        let large = await HandlerTest(Bytes(count: 1 << 20 + 1)).run()
        #expect(large.failure?.message.hasPrefix("a result of 1048577 bytes is over the limit") == true)
    }

    private struct Naming: JobMiddleware {
        func run(
            _ context: JobContext, next: @escaping @Sendable () async throws -> JobPayload
        ) async throws -> JobPayload {
            context.log("around \(context.kind), due in \(ContinuousClock.now < context.deadline)")
            context.log("priority \(context.priority) of \(context.labels)")
            return try await next()
        }
    }

    @Test func middlewareRunsToo() async throws {
        var test = HandlerTest(Bytes())
        test.middleware = [Naming()]
        test.priority = 7
        test.labels = ["book": "1"]
        #expect(
            await test.run().log.map(\.message) == [
                "around bytes, due in true", #"priority 7 of ["book": "1"]"#,
            ])
    }
}
