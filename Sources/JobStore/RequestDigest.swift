import Crypto
import JobModel
import Support

/// What makes two requests the same: SHA-256 over every field that the caller sets, each with its length.
enum RequestDigest {
    static func digest(of spec: JobSpec) -> [UInt8] {
        var hash = SHA256()
        func add(_ bytes: some Collection<UInt8>) {
            var length = UInt64(bytes.count).littleEndian
            withUnsafeBytes(of: &length) { hash.update(bufferPointer: $0) }
            hash.update(data: Array(bytes))
        }
        func add(_ text: String) { add(Array(text.utf8)) }
        add(spec.kind)
        add(spec.userID.text)
        add(spec.queue)
        add(spec.contentType.text)
        add(spec.idempotencyKey?.text ?? "")
        add(spec.payload)
        switch spec.due {
        case .after(let delay): add("after \(delay.microseconds)")
        case .at(let moment): add("at \(moment.microseconds)")
        }
        let policy = spec.retryPolicy
        add("\(spec.priority) \(spec.maxAttempts)")
        add(
            "\(policy.initialDelay.microseconds) \(policy.factor) \(policy.maxDelay.microseconds) \(policy.jitter)"
        )
        add("\(spec.timeout?.microseconds ?? -1) \(spec.softTimeout?.microseconds ?? -1)")
        for (key, value) in spec.labels.sorted(by: { $0.key < $1.key }) {
            add(key.text)
            add(value.text)
        }
        return Array(hash.finalize())
    }
}
