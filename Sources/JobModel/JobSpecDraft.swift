package import Support

/// A wrong field of a request.
package struct FieldViolation: Sendable, Hashable {
    /// The path of the field, as in `jobs[3].kind`.
    package var field: String
    package var reason: Reason
    package var description: String

    package init(field: String, reason: Reason, description: String) {
        self.field = field
        self.reason = reason
        self.description = description
    }

    /// The problem with the field, for programs (`google.rpc.BadRequest.FieldViolation.reason`).
    package enum Reason: String, Sendable, Hashable, CaseIterable {
        case required = "REQUIRED"
        /// Text, or a list, is longer than its limit.
        case tooLong = "TOO_LONG"
        case outOfRange = "OUT_OF_RANGE"
        case malformed = "MALFORMED"
        /// An enum's value is unknown.
        case unknownValue = "UNKNOWN_VALUE"
        case unknownField = "UNKNOWN_FIELD"
        /// The field may not be set together with others that are, or is given twice.
        case notAllowedHere = "NOT_ALLOWED_HERE"
    }
}

/// A job as a caller described it, not yet checked. Nil and the zero values of protobuf mean that a field was not
/// given.
package struct JobSpecDraft: Sendable {
    package var kind: ExactText = ""
    package var userID: ExactText = ""
    package var queue: ExactText = ""
    package var payload: [UInt8] = []
    package var contentType: ExactText = ""
    package var jobID: ExactText = ""
    package var idempotencyKey: ExactText = ""
    package var priority: Int?
    package var runAt: Timestamp?
    package var delay: Duration?
    package var maxAttempts = 0
    package var retryInitialDelay: Duration?
    package var retryFactor: Double?
    package var retryMaxDelay: Duration?
    package var retryJitter: Double?
    package var timeout: Duration?
    package var softTimeout: Duration?
    package var labels: [(key: ExactText, value: ExactText)] = []

    package init() {}

    /// The spec with its defaults. Nil if `violations` already has an entry, or if a field is wrong, for which an
    /// entry is added. `path` is the prefix of each field's name, as in `job.`.
    package func validated(
        path: String, now: Timestamp, into violations: inout [FieldViolation]
    ) -> JobSpec? {
        var check = FieldCheck(path: path, violations: violations)
        check.name(kind, "kind", bytesMax: JobLimits.kindBytesMax, required: true)
        check.name(queue, "queue", bytesMax: JobLimits.queueBytesMax, required: false)
        check.userID(userID, required: true)
        check.plainText(
            contentType, "content_type", bytesMax: JobLimits.contentTypeBytesMax, required: false)
        check.plainText(
            idempotencyKey, "idempotency_key", bytesMax: JobLimits.idempotencyKeyBytesMax, required: false)
        let id = JobID(jobID.text)
        check.require(jobID.isEmpty || id != nil, "job_id", .malformed, "is not a UUID of 36 characters")
        check.require(
            JobLimits.priorityRange.contains(priority ?? 0), "priority", .outOfRange,
            "is not within −100 to 100")
        check.require(
            maxAttempts == 0 || JobLimits.attemptsRange.contains(maxAttempts), "max_attempts",
            .outOfRange, "is not within 1 to 100")
        check.duration(delay, "delay", within: .zero...JobLimits.delayMax, "0 s to 10 years")
        if let runAt {
            check.require(
                runAt <= now.advanced(by: JobLimits.delayMax), "run_at", .outOfRange,
                "is more than 10 years ahead")
        }
        let retryDelays = Duration.zero...JobLimits.retryDelayMax
        check.duration(
            retryInitialDelay, "retry_policy.initial_delay", within: retryDelays, "0 s to 30 days")
        check.duration(retryMaxDelay, "retry_policy.max_delay", within: retryDelays, "0 s to 30 days")
        check.require(
            JobLimits.factorRange.contains(retryFactor ?? 1), "retry_policy.factor",
            .outOfRange, "is not within 1 to 100")
        check.require(
            (0...1).contains(retryJitter ?? 0), "retry_policy.jitter", .outOfRange, "is not within 0 to 1")
        let timeouts = JobLimits.timeoutMin...JobLimits.timeoutMax
        check.duration(timeout, "timeout", within: timeouts, "1 ms to 30 days")
        check.duration(softTimeout, "soft_timeout", within: timeouts, "1 ms to 30 days")
        if let timeout, let softTimeout {
            // They are kept in whole milliseconds.
            check.require(
                softTimeout.milliseconds < timeout.milliseconds, "soft_timeout", .outOfRange,
                "is not less than timeout")
        }
        check.labels(labels, countMax: JobLimits.labelsMax)
        let type = contentType.nonEmpty ?? JobLimits.defaultContentType
        // A payload that is too long is refused with another status, so it is not parsed.
        if (1...JobLimits.payloadBytesMax).contains(payload.count), MediaType.isJSON(type) {
            check.json(payload, "payload")
        }
        violations = check.violations
        guard violations.isEmpty else { return nil }

        let defaults = RetryPolicy()
        return JobSpec(
            kind: kind.text, userID: userID, queue: queue.nonEmpty?.text ?? JobLimits.defaultQueue,
            payload: payload, contentType: type, jobID: id, idempotencyKey: idempotencyKey.nonEmpty,
            priority: priority ?? 0,
            due: runAt.map { .at($0) } ?? .after(delay ?? .zero),
            maxAttempts: maxAttempts == 0 ? JobLimits.maxAttemptsDefault : maxAttempts,
            retryPolicy: RetryPolicy(
                initialDelay: retryInitialDelay ?? defaults.initialDelay,
                factor: retryFactor ?? defaults.factor,
                maxDelay: retryMaxDelay ?? defaults.maxDelay, jitter: retryJitter ?? defaults.jitter),
            timeout: timeout, softTimeout: softTimeout,
            labels: Dictionary(labels.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last }))
    }
}

/// The checks that several fields need. Each adds a violation when it fails.
package struct FieldCheck {
    package let path: String
    package private(set) var violations: [FieldViolation]

    package init(path: String = "", violations: [FieldViolation] = []) {
        self.path = path
        self.violations = violations
    }

    package mutating func require(
        _ holds: Bool, _ field: String, _ reason: FieldViolation.Reason,
        _ description: @autoclosure () -> String
    ) {
        guard !holds else { return }
        violations.append(FieldViolation(field: path + field, reason: reason, description: description()))
    }

    /// Checks the length. That the text is UTF-8 without NUL was checked when it was read.
    package mutating func text(_ value: ExactText, _ field: String, bytesMax: Int, required: Bool) {
        if required { require(!value.isEmpty, field, .required, "is required") }
        require(value.utf8.count <= bytesMax, field, .tooLong, "is longer than \(bytesMax) bytes")
    }

    /// Checks text of one line. Control characters could forge lines of a log, and move the cursor of a terminal.
    package mutating func plainText(_ value: ExactText, _ field: String, bytesMax: Int, required: Bool) {
        text(value, field, bytesMax: bytesMax, required: required)
        require(!value.hasControlCharacter, field, .malformed, "has a control character")
    }

    package mutating func userID(_ value: ExactText, required: Bool) {
        plainText(value, "user_id", bytesMax: JobLimits.userIDBytesMax, required: required)
    }

    package mutating func json(_ bytes: [UInt8], _ field: String) {
        switch JSONText.verdict(on: bytes) {
        case .valid: break
        case .invalid: require(false, field, .malformed, "is not JSON, as content_type says")
        case .keyTooLong:
            require(
                false, field, .malformed, "has a key of more than \(JSONText.keyBytesMax) bytes in its JSON")
        }
    }

    /// Checks the name of a kind or a queue: letters, digits and `._-/`. It is ASCII, which Swift compares by its
    /// bytes, so it may be a `String` from here on.
    package mutating func name(_ value: ExactText, _ field: String, bytesMax: Int, required: Bool) {
        text(value, field, bytesMax: bytesMax, required: required)
        require(
            value.utf8.allSatisfy(Self.isNameByte), field, .malformed,
            "has a character other than a–z, A–Z, 0–9, '.', '_', '-' and '/'")
    }

    package mutating func duration(
        _ value: Duration?, _ field: String, within range: ClosedRange<Duration>, _ stated: String
    ) {
        if let value { require(range.contains(value), field, .outOfRange, "is not within \(stated)") }
    }

    package mutating func labels(_ labels: [(key: ExactText, value: ExactText)], countMax: Int) {
        require(labels.count <= countMax, "labels", .tooLong, "are more than \(countMax)")
        for (key, value) in labels.prefix(countMax) {
            labelKey(key)
            plainText(value, "labels", bytesMax: JobLimits.labelValueBytesMax, required: false)
        }
    }

    /// Keys may become parts of addresses, of metrics and of a language for filters, so they are narrower than values.
    private mutating func labelKey(_ key: ExactText) {
        name(key, "labels", bytesMax: JobLimits.labelKeyBytesMax, required: true)
        let first = key.utf8.first ?? UInt8(ascii: "a")
        require(
            !Self.isNameByte(first) || Self.isLetterOrDigit(first), "labels", .malformed,
            "has a key that does not begin with a letter or digit")
        require(
            !key.starts(with: "signalbox.") && !key.starts(with: "signalbox/"), "labels", .malformed,
            "has a key that begins with \"signalbox.\" or \"signalbox/\", which are for the service")
    }

    package static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "/"): true
        default: isLetterOrDigit(byte)
        }
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: false
        }
    }
}

/// Facts about media types.
package enum MediaType {
    /// Whether the type is `application/json`, or has the suffix `+json` (RFC 6839 section 3.1), with or without
    /// parameters.
    package static func isJSON(_ type: ExactText) -> Bool {
        if type == JobLimits.defaultContentType { return true }
        var name = type.utf8.prefix { $0 != UInt8(ascii: ";") }
        while name.last == UInt8(ascii: " ") { name.removeLast() }
        let lowercased = ExactText(decoding: name).lowercasedASCII
        return lowercased == JobLimits.defaultContentType || lowercased.ends(with: "+json")
    }
}
