import CLibFuzzer
import Glibc
import JobCore
import JobMessages
import NIOCore

/// Any bytes as each message that the service reads, and as those that its client reads.
private func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var input = UnsafeBufferPointer(start: start, count: count)[...]
    guard let choice = input.popFirst() else { return 0 }
    let bytes = ByteBuffer(bytes: input)
    var violations: [FieldViolation] = []
    switch choice % 8 {
    case 0:
        let request = try? EnqueueRequest.decode(bytes, into: &violations)
        _ = request?.job?.validated(path: "job.", now: .now, into: &violations)
    case 1:
        let request = try? EnqueueBatchRequest.decode(bytes, into: &violations)
        for job in request?.jobs ?? [] { _ = job.validated(path: "job.", now: .now, into: &violations) }
    case 2: _ = try? ListJobsRequest.decode(bytes, into: &violations)
    case 3: _ = try? WatchRequest.decode(bytes, into: &violations)
    case 4: _ = try? ServerReflectionRequest.decode(bytes, into: &violations)
    case 5: _ = try? GetJobResponse.decode(bytes)
    case 6: _ = try? WatchResponse.decode(bytes)
    default: _ = try? StatusDetails.decode(Array(bytes.readableBytesView))
    }
    return 0
}

@main enum FuzzMessages {
    static func main() {
        var (count, arguments) = (CommandLine.argc, Optional(CommandLine.unsafeArgv))
        exit(LLVMFuzzerRunDriver(&count, &arguments) { start, count in fuzz(start, count) })
    }
}
