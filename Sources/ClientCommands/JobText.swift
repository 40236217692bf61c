import JobModel
import Support

/// Formats a job with its history for people.
enum JobText {
    /// The largest payload or result that is shown.
    private static let contentBytesMax = 4096

    static func lines(_ job: JobRecord, includesPayload: Bool) -> [String] {
        var facts: [(String, String)] = [
            ("id", job.id.description), ("kind", job.spec.kind), ("user", job.spec.userID.text),
            ("queue", job.spec.queue),
            ("state", job.cancelRequested ? "\(job.state.word), being cancelled" : job.state.word),
            ("attempts", "\(job.attemptsUsed) of \(job.spec.maxAttempts) used, \(job.attempt) started"),
            ("priority", "\(job.spec.priority)"), ("created", job.createdAt.text), ("due", job.dueAt.text),
        ]
        if let started = job.startedAt { facts.append(("started", started.text)) }
        if let finished = job.finishedAt {
            let elapsed = job.startedAt.map { " (after \(finished.since($0).brief))" } ?? ""
            facts.append(("finished", finished.text + elapsed))
        }
        if let timeout = job.spec.timeout { facts.append(("timeout", timeout.brief)) }
        if let timeout = job.spec.softTimeout { facts.append(("soft timeout", timeout.brief)) }
        if let key = job.spec.idempotencyKey { facts.append(("key", key.text)) }
        for (key, value) in job.spec.labels.sorted(by: { $0.key < $1.key }) {
            facts.append(("label", "\(key)=\(value)"))
        }
        if let progress = job.progress { facts.append(("progress", WatchLine.text(progress))) }
        if let error = job.error { facts.append(("error", error.text)) }
        if includesPayload {
            facts.append(("payload", content(job.spec.payload, type: job.spec.contentType.text)))
        }
        if let result = job.result {
            facts.append(("result", content(result.data, type: result.contentType.text)))
        }

        let width = facts.map(\.0.count).max() ?? 0
        var lines = facts.map { "\(($0 + ":").padded(toColumns: width + 2))\($1.printable)" }
        lines += section("Attempts", job.attempts.map(text))
        lines += section("Log", job.log.map(text))
        return lines
    }

    static func text(_ attempt: Attempt) -> String {
        var line = "\(attempt.number)  \(attempt.startedAt.text)  "
        // The server names the node only to callers with the scope admin.
        if !attempt.node.utf8.isEmpty { line += "\(attempt.node)  " }
        line += attempt.outcome?.word ?? "UNKNOWN"
        if !attempt.isCounted { line += " (not counted)" }
        if let end = attempt.endedAt { line += " after \(end.since(attempt.startedAt).brief)" }
        return attempt.error.map { "\(line), \($0.text)" } ?? line
    }

    static func text(_ line: LogLine) -> String {
        "\(line.at.text)  \(WatchLine.text(line))"
    }

    private static func section(_ title: String, _ lines: [String]) -> [String] {
        lines.isEmpty ? [] : ["", "\(title):"] + lines.map { "  \($0.printable)" }
    }

    private static func content(_ bytes: [UInt8], type: String) -> String {
        if bytes.isEmpty { return "(empty) \(type)" }
        guard bytes.count <= contentBytesMax, let text = String(validating: bytes, as: UTF8.self) else {
            return "(\(bytes.count) bytes of \(type))"
        }
        return text
    }
}
