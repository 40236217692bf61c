import JobModel
import SignalboxProto
import Testing

@testable import ClientCommands

@Suite struct ProgressBoardTests {
    private let now = Sample.start.advanced(by: .seconds(65))

    private func bar(_ columns: Int, _ change: (inout ProgressBar) -> Void = { _ in }) -> String {
        var bar = ProgressBar(id: Sample.id, kind: "test.sleep", state: .running)
        bar.startedAt = Sample.start
        bar.progress = Sample.progress(0.5)
        change(&bar)
        return bar.line(now: now, columns: columns, nameColumns: 0, glyphs: .ascii)
    }

    @Test func aBarSaysHowFarHowLongAndWhat() {
        #expect(
            bar(80)
                == "test.sleep deadbeef [##########..........]  50%  1:05 synthesis 3/7 Speaking")
    }

    @Test(arguments: [0.0, 0.004, 0.999, 1.0]) func onlyWhatIsDoneIsFull(fraction: Double) {
        let line = bar(100) { $0.progress = Sample.progress(fraction) }
        #expect(line.contains("[#########################]") == (fraction == 1))
        #expect(line.contains("100%") == (fraction == 1))
    }

    @Test(arguments: [10, 20, 40, 59, 60, 80, 200]) func aLineIsLessWideThanTheTerminal(columns: Int) {
        let line = bar(columns) {
            $0.progress = Sample.progress(0.3, message: String(repeating: "長い話", count: 100))
        }
        #expect(line.columns < columns)
    }

    @Test func aNarrowTerminalHasNoBar() {
        #expect(bar(50) == "test.sleep deadbeef  50%  1:05 synthesis 3/7 Spe…")
    }

    @Test func whatAHandlerSaysCannotDriveTheTerminal() {
        let line = bar(100) { $0.progress = Sample.progress(0.5, message: "a\u{1B}[2Jb\rc\u{202E}d") }
        #expect(line.hasSuffix(#"a\u{1B}[2Jb\rc\u{202E}d"#))
    }

    @Test func aPendingJobSaysWhenItIsDue() {
        let line = bar(80) {
            $0.state = .pending
            $0.dueAt = now.advanced(by: .seconds(5))
        }
        #expect(line == "test.sleep deadbeef due in 5s")
        #expect(bar(80) { $0.state = .pending } == "test.sleep deadbeef waits")
    }

    @Test func aFinalJobLeavesTheBarsForALine() {
        var board = ProgressBoard(glyphs: .ascii)
        board.apply(.snapshot(Sample.job()))
        #expect(board.bars(now: now, columns: 80, rows: 24).count == 1)
        #expect(board.takeLines().isEmpty)
        board.apply(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        #expect(board.bars(now: now, columns: 80, rows: 24).isEmpty)
        #expect(board.takeLines() == ["\(Sample.id) SUCCEEDED test.sleep in 3s"])
        #expect(board.takeLines().isEmpty)
    }

    @Test func anEndIsPrintedOnce() {
        var board = ProgressBoard()
        board.apply(.snapshot(Sample.job(.succeeded, sequence: 3)))
        board.apply(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        #expect(board.takeLines() == ["\(Sample.id) SUCCEEDED test.sleep in 12s"])
        // Put back, it ends once more.
        board.apply(.lifecycle(Sample.event(.retried, sequence: 4)))
        board.apply(.lifecycle(Sample.event(.cancelled, sequence: 5)))
        #expect(board.takeLines().count == 1)
    }

    @Test func aFailureSaysWhy() {
        var board = ProgressBoard()
        board.apply(.snapshot(Sample.job(.failed)))
        #expect(
            board.takeLines() == ["\(Sample.id) FAILED test.sleep in 12s, handler permanent: no such voice"])
    }

    @Test func aRetryIsPrinted() {
        var board = ProgressBoard()
        let error = JobError(message: "boom", cause: .handler)
        board.apply(.lifecycle(Sample.event(.retryScheduled, sequence: 3, error: error)))
        #expect(board.takeLines() == ["\(Sample.id) RETRY_SCHEDULED attempt 1, handler: boom"])
    }

    @Test func barsFitTheScreenRunningOnesFirst() {
        var board = ProgressBoard(glyphs: .ascii)
        for number in 0..<20 {
            let id = JobID.version7(milliseconds: 1, random: (UInt64(number), 7))
            board.apply(.snapshot(Sample.job(number < 19 ? .pending : .running, id: id)))
        }
        let bars = board.bars(now: now, columns: 80, rows: 10)
        #expect(bars.count == 9)
        #expect(bars[0].contains("["))
        #expect(bars[8] == "and 12 more")
    }

    @Test func whatIsKeptIsBounded() {
        var board = ProgressBoard()
        for number in 0..<3000 {
            let id = JobID.version7(milliseconds: 1, random: (UInt64(number), UInt64(number)))
            board.apply(.snapshot(Sample.job(.pending, id: id)))
            board.add(line: "x")
        }
        #expect(board.bars(now: now, columns: 80, rows: 10).last == "and 992 more")
        #expect(board.takeLines().count == ProgressBoard.linesMax)
    }
}

@Suite struct WatchPrinterTests {
    @Test func barsAreRedrawnInPlace() async throws {
        let (writes, continuation) = AsyncStream<String>.makeStream()
        let printer = WatchPrinter(.bars, board: ProgressBoard(glyphs: .ascii)) { continuation.yield($0) }
        try await printer.show(.snapshot(Sample.job(.pending)))
        let ticker = await printer.startTicking()
        var frames = writes.makeAsyncIterator()
        #expect(await frames.next() == "\rtest.sleep deadbeef waits\u{1B}[K\n\u{1B}[J")
        try await printer.show(.lifecycle(Sample.event(.succeeded, sequence: 3)))
        try await printer.finish()
        ticker?.cancel()
        #expect(await frames.next() == "\r\u{1B}[1A\(Sample.id) SUCCEEDED test.sleep\u{1B}[K\n\u{1B}[J")
    }
}
