import CSignalboxProto
package import JobModel
package import NIOCore
package import Support

/// The event of one message of a watch. Its cases are the domain's types, so it is written by hand.
package enum WatchEvent: Sendable, Hashable {
    /// Encoding leaves out the attempts, the log and the payload.
    case snapshot(JobRecord)
    case lifecycle(JobEvent)
    case progress(JobID, attempt: Int, Progress)
    case heartbeat(at: Timestamp)
    case log(JobID, [LogLine])
    case removed(JobID)
    case opened(resumed: Bool, heartbeatInterval: Duration)
    case snapshotsComplete
    /// A kind of message that this version does not know. It comes from decoding only.
    case other
}

/// One message of a watch.
package struct WatchResponse: ResponseMessage, Hashable {
    package var event: WatchEvent
    /// Where a later watch can go on; empty: the token of an earlier message is still the latest.
    package var resumeToken: ExactText

    package init(_ event: WatchEvent, resumeToken: ExactText = "") {
        self.event = event
        self.resumeToken = resumeToken
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> WatchResponse {
        try unsafe decode(bytes, signalbox__v1__watch_response__unpack) { message, reader in
            unsafe WatchResponse(
                reader.watchEvent(message), resumeToken: reader.answer(message.resume_token, "resume_token"))
        }
    }

    package static func json(_ bytes: ByteBuffer, in field: String?) throws(DecodingError) -> [String] {
        try unsafe json(bytes, signalbox__v1__watch_response__unpack, in: field)
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(signalbox__v1__watch_response__init) { message, arena in
            unsafe arena.fill(&message, with: event)
            unsafe message.resume_token = arena.text(resumeToken)
        }
    }
}

extension FieldReader {
    fileprivate mutating func watchEvent(_ message: Signalbox__V1__WatchResponse) -> WatchEvent {
        switch unsafe message.event_case {
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_SNAPSHOT:
            let job = unsafe message.snapshot?.pointee.job
            return unsafe .snapshot(
                required(job, Signalbox__V1__Job(), "snapshot.job") { unsafe $1.job($0, "snapshot.job") })
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LIFECYCLE:
            guard let event = unsafe message.lifecycle?.pointee else { return .other }
            return unsafe .lifecycle(self.event(event))
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_PROGRESS:
            guard let event = unsafe message.progress?.pointee else { return .other }
            return unsafe .progress(
                answer(event.job_id, "progress.job_id"), attempt: Int(event.attempt),
                required(event.progress, Signalbox__V1__Progress(), "progress.progress") {
                    unsafe $1.progress($0, "progress.progress")
                })
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_HEARTBEAT:
            guard let heartbeat = unsafe message.heartbeat?.pointee else { return .other }
            return unsafe .heartbeat(at: requiredTimestamp(heartbeat.at, "heartbeat.at"))
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_REMOVED:
            guard let removed = unsafe message.removed?.pointee else { return .other }
            return unsafe .removed(answer(removed.job_id, "removed.job_id"))
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_OPENED:
            guard let opened = unsafe message.opened?.pointee else { return .other }
            let interval = unsafe duration(opened.heartbeat_interval, "opened.heartbeat_interval")
            return unsafe .opened(resumed: opened.resumed != 0, heartbeatInterval: interval ?? .zero)
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_SNAPSHOTS_COMPLETE:
            return .snapshotsComplete
        case SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LOG:
            guard let log = unsafe message.log?.pointee else { return .other }
            let id: JobID = unsafe answer(log.job_id, "log.job_id")
            let lines = unsafe list(log.n_lines, log.lines) { unsafe logLine($1, "log.lines[\($0)]") }
            return .log(id, lines)
        default:
            return .other
        }
    }

    private mutating func event(_ message: Signalbox__V1__JobEvent) -> JobEvent {
        unsafe JobEvent(
            jobID: answer(message.job_id, "lifecycle.job_id"), sequence: message.sequence,
            type: open(message.type), state: known(message.state, "lifecycle.state"),
            at: requiredTimestamp(message.at, "lifecycle.at"), attempt: Int(message.attempt),
            node: nonEmptyAnswer(message.node, "lifecycle.node")?.text,
            error: optional(message.error) { unsafe $1.jobError($0, "lifecycle.error") },
            dueAt: timestamp(message.due_at, "lifecycle.due_at"),
            result: optional(message.result) { unsafe $1.jobResult($0, "lifecycle.result") },
            kind: answer(message.kind, "lifecycle.kind"),
            userID: answer(message.user_id, "lifecycle.user_id"),
            queue: answer(message.queue, "lifecycle.queue"))
    }
}

extension MessageArena {
    fileprivate func fill(_ message: inout Signalbox__V1__WatchResponse, with event: WatchEvent) {
        switch event {
        case .snapshot(let record):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_SNAPSHOT
            unsafe message.snapshot = make(signalbox__v1__job_snapshot__init) {
                unsafe $0.job = make(signalbox__v1__job__init) { unsafe fill(&$0, with: record) }
            }
        case .lifecycle(let event):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LIFECYCLE
            unsafe message.lifecycle = make(signalbox__v1__job_event__init) {
                unsafe fill(&$0, with: event)
            }
        case .progress(let id, let attempt, let progress):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_PROGRESS
            unsafe message.progress = make(signalbox__v1__progress_event__init) {
                unsafe $0.job_id = text(id.description)
                unsafe $0.attempt = Int32(clamping: attempt)
                unsafe $0.progress = make(signalbox__v1__progress__init) { unsafe fill(&$0, with: progress) }
            }
        case .heartbeat(let at):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_HEARTBEAT
            unsafe message.heartbeat = make(signalbox__v1__heartbeat__init) {
                unsafe $0.at = timestamp(at)
            }
        case .log(let id, let lines):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_LOG
            unsafe message.log = make(signalbox__v1__log_event__init) {
                unsafe $0.job_id = text(id.description)
                unsafe ($0.n_lines, $0.lines) = list(lines, signalbox__v1__log_line__init) {
                    unsafe fill(&$0, with: $1)
                }
            }
        case .removed(let id):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_REMOVED
            unsafe message.removed = make(signalbox__v1__job_removed__init) {
                unsafe $0.job_id = text(id.description)
            }
        case .opened(let isResumed, let heartbeatInterval):
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_OPENED
            unsafe message.opened = make(signalbox__v1__watch_opened__init) {
                unsafe $0.resumed = isResumed ? 1 : 0
                unsafe $0.heartbeat_interval = duration(heartbeatInterval)
            }
        case .snapshotsComplete:
            unsafe message.event_case = SIGNALBOX__V1__WATCH_RESPONSE__EVENT_SNAPSHOTS_COMPLETE
            unsafe message.snapshots_complete = make(signalbox__v1__snapshots_complete__init) { _ in }
        case .other:
            break
        }
    }

    private func fill(_ message: inout Signalbox__V1__JobEvent, with event: JobEvent) {
        unsafe message.job_id = text(event.jobID.description)
        unsafe message.sequence = event.sequence
        if let type = event.type { unsafe message.type = type.onWire }
        unsafe message.state = event.state.onWire
        unsafe message.at = timestamp(event.at)
        unsafe message.attempt = Int32(clamping: event.attempt)
        unsafe message.node = text(event.node ?? "")
        if let error = event.error {
            unsafe message.error = make(signalbox__v1__job_error__init) { unsafe fill(&$0, with: error) }
        }
        unsafe message.due_at = timestamp(event.dueAt)
        if let result = event.result {
            unsafe message.result = make(signalbox__v1__job_result__init) { unsafe fill(&$0, with: result) }
        }
        unsafe message.kind = text(event.kind)
        unsafe message.user_id = text(event.userID)
        unsafe message.queue = text(event.queue)
    }
}
