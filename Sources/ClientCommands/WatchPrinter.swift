import JobModel
import NIOCore
import SignalboxProto

/// Prints the messages of a watch: bars that are redrawn in place, lines, or JSON.
actor WatchPrinter {
    enum Style: Sendable {
        case bars
        case lines
        case json
    }

    /// The interval between frames. Only the latest progress is drawn.
    private static let frameInterval = Duration.milliseconds(100)

    let style: Style
    private let write: @Sendable (String) throws -> Void
    private var board: ProgressBoard
    /// The number of lines with bars on the screen, which the next frame replaces.
    private var linesDrawn = 0
    private var drawn: [String] = []
    private var isFinished = false

    init(
        _ style: Style, board: ProgressBoard = ProgressBoard(),
        write: @escaping @Sendable (String) throws -> Void = { try Terminal.write($0) }
    ) {
        self.style = style
        self.board = board
        self.write = write
    }

    /// - Parameter bytes: the message as the server has sent it. Nil: a message was made of what it has sent.
    func show(_ event: WatchEvent, bytes: ByteBuffer? = nil) throws {
        switch style {
        case .bars:
            board.apply(event)
        case .lines:
            for line in WatchLine.lines(for: event) { try write(line + "\n") }
        case .json:
            let bytes = bytes ?? WatchResponse(event).encode()
            for line in try JSONOutput.lines(bytes, of: WatchResponse.self) { try write(line + "\n") }
        }
    }

    /// Prints a message that is not about a job: above the bars, or to standard error.
    func note(_ text: String) throws {
        switch style {
        case .bars: board.add(line: "signalbox: \(text)")
        case .lines, .json: try complain(text)
        }
    }

    /// Redraws bars until it is cancelled. Nil if the style has no bars.
    func startTicking() -> Task<Void, any Error>? {
        guard style == .bars else { return nil }
        return Task {
            while !Task.isCancelled {
                try self.draw()
                try await Task.sleep(for: Self.frameInterval)
            }
        }
    }

    /// Draws the last frame. No other frame follows.
    func finish() throws {
        if style == .bars { try draw() }
        isFinished = true
    }

    private func draw() throws {
        guard !isFinished else { return }
        let size = Terminal.size
        let above = board.takeLines()
        let bars = board.bars(now: .now, columns: size.columns, rows: size.rows)
        guard !above.isEmpty || bars != drawn else { return }
        var frame = "\r"
        if linesDrawn > 0 { frame += "\u{1B}[\(linesDrawn)A" }
        // Each line is overwritten, which flickers less than clearing first. The cursor stays on the line below
        // the bars.
        for line in above + bars { frame += line + "\u{1B}[K\n" }
        frame += "\u{1B}[J"
        linesDrawn = bars.count
        drawn = bars
        try write(frame)
    }
}
