import Foundation
import GRPCCore
import SwiftProtobuf

/// A line of output. What is nil is left out.
struct Line: Encodable {
    var event: String?
    var jobID: String?
    var created: Bool?
    var type: String?
    var state: String?
    var sequence: Int64?
    var fraction: Double?
    var attempt: Int?
    var code: String?
    var result: String?
    var left: Int?
    var violations: [Violation]?

    enum CodingKeys: String, CodingKey {
        case event, created, type, state, sequence, fraction, attempt, code, result, left, violations
        case jobID = "job_id"
    }
}

struct Violation: Encodable {
    var field: String
    var description: String
}

func show(_ line: Line) throws {
    FileHandle.standardOutput.write(try JSONEncoder().encode(line) + Data("\n".utf8))
}

/// The name of a value in the protos, without the name of its enum: RETRY_SCHEDULED for `retryScheduled`. A value that a
/// newer service has added counts as UNSPECIFIED.
func name<Value: SwiftProtobuf.Enum & CaseIterable>(of value: Value) -> String {
    screamingSnake("\(Value.allCases.contains(value) ? value : Value())")
}

/// The name of gRPC's code: INVALID_ARGUMENT for `invalidArgument`.
func name(of code: RPCError.Code) -> String {
    code == .internalError ? "INTERNAL" : screamingSnake("\(code)")
}

/// RETRY_SCHEDULED for retryScheduled.
private func screamingSnake(_ camelCase: String) -> String {
    camelCase.reduce(into: "") { name, letter in
        name += (letter.isUppercase ? "_" : "") + letter.uppercased()
    }
}
