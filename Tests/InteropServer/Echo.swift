import GRPC

// What a request can ask to have back besides messages.

/// Gives back the two metadata keys that clients test with. To be called first, so that an answer that is an error
/// has them too.
func echoMetadata(of context: ServerContext) {
    let received = context.metadata
    var initial = Metadata()
    for value in received.values(for: "x-grpc-test-echo-initial") {
        initial.add(value, for: "x-grpc-test-echo-initial")
    }
    if !initial.isEmpty { context.setInitialMetadata(initial) }
    var trailing = Metadata()
    for value in received.bytes(for: "x-grpc-test-echo-trailing-bin") {
        trailing.add(bytes: value, for: "x-grpc-test-echo-trailing-bin")
    }
    if !trailing.isEmpty { context.setTrailingMetadata(trailing) }
}

extension EchoStatus {
    /// Ends the call with this status. OK is no end: the call goes on to its answer.
    func end() throws(Status) {
        guard code != 0 else { return }
        guard let known = Status.Code(rawValue: Int(code)) else {
            throw Status(.invalidArgument, "no status has the code \(code)")
        }
        throw Status(known, message)
    }
}

/// That the message came compressed, or not, as its client says that it sent it.
func check(expectCompressed: Bool?, in context: ServerContext) throws(Status) {
    guard let expectCompressed, expectCompressed != context.requestWasCompressed else { return }
    throw Status(
        .invalidArgument,
        expectCompressed ? "the message did not come compressed" : "the message came compressed")
}
