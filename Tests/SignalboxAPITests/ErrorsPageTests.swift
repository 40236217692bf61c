import Authentication
import Foundation
import JobModel
import JobService
import SignalboxProto
import GRPC
import Support
import Testing

@testable import SignalboxAPI

/// docs/errors.md says what the code does: each error of the service and each reason of the transport has its row
/// there, and each row its error.
@Suite struct ErrorsPageTests {
    struct Row: Hashable {
        var status: String
        var reason: String
        var details: Set<String>
        var metadata: Set<String>
    }

    private static let id = JobID.version7(at: .now)

    /// One error for each case, and for each reason where a case has several.
    private static let serviceErrors: [ServiceError] = [
        .invalid([FieldViolation(field: "a", reason: .required, description: "is required")]),
        .invalid([FieldViolation(field: "a", reason: .unknownField, description: "is unknown")]),
        .pageTokenInvalid, .maskInvalid(field: "a", allowed: "b"), .queueNotFound("a"),
        .payloadTooLarge(field: "a", bytes: 9), .userNotAllowed(field: "a"),
        .unknownKind("a", field: "b"), .quotaExceeded(.rate, user: "a", retryAfter: .seconds(1)),
        .tooManyQueues(user: "a"), .notFound(id), .conflict(id, .jobID, index: 1),
        .conflict(id, .idempotencyKey, index: 1), .wrongState(id, .running),
        .sequenceMismatch(id, expected: 3, actual: 4),
        .outOfRange(id, sequence: 1, after: 2), .readerTooSlow, .shuttingDown, .overloaded,
        .unavailable("a"), .outcomeUnknown("a"), .cancelled, .broken("a"),
    ]

    private static func rows() throws -> [Row] {
        let page = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../docs/errors.md").standardizedFileURL
        func list(_ cell: String) -> Set<String> {
            // exact: a page of our own
            Set(cell.split(separator: ", ").map(String.init).filter { $0 != "–" })
        }
        return try String(contentsOf: page, encoding: .utf8).split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 6, cells[0].allSatisfy({ $0.isUppercase || $0 == "_" }) else { return nil }
            return Row(
                status: cells[0], reason: cells[1], details: list(cells[2]), metadata: list(cells[3]))
        }
    }

    private static func row(_ status: Status) throws -> Row {
        let details = try status.decodedDetails
        let info = try #require(details.errorInfo)
        var types: Set<String> = []
        if !details.badRequest.isEmpty { types.insert("BadRequest") }
        if details.retryDelay != nil { types.insert("RetryInfo") }
        if details.quota != nil { types.insert("QuotaFailure") }
        if details.precondition != nil { types.insert("PreconditionFailure") }
        if details.resource != nil { types.insert("ResourceInfo") }
        #expect(details.code == status.code.rawValue && details.message == status.message)
        return Row(
            status: name(status.code), reason: info.reason, details: types, metadata: Set(info.metadata.keys))
    }

    private static func name(_ code: Status.Code) -> String {
        code == .internalError
            ? "INTERNAL"
            : "\(code)".reduce(into: "") { $0 += $1.isUppercase ? "_\($1)" : $1.uppercased() }
    }

    @Test func everyErrorOfTheServiceHasItsRow() throws {
        let rows = try Set(Self.rows())
        for error in Self.serviceErrors {
            let row = try Self.row(StatusMapping.status(for: error))
            #expect(rows.contains(row), "\(row)")
        }
        struct Foreign: Error {}
        #expect(try Self.row(StatusMapping.status(for: Foreign())).reason == "INTERNAL")
        for error in [DecodingError.malformed, .tooLarge] {
            let row = try Self.row(StatusMapping.status(for: error))
            #expect(rows.contains { $0.status == row.status && $0.reason == row.reason })
        }
    }

    @Test func everyReasonHasItsRowAndEveryRowItsReason() throws {
        let rows = try Self.rows()
        let words = Status.Reason.Word.allCases
        let known = Set(ErrorReason.allCases.map(\.rawValue) + words.map(\.rawValue))
        #expect(Set(rows.map(\.reason)) == known)
        #expect(Set(rows).count == rows.count)
        for word in words {
            let repeats = Status.Reason(word).retryDelay != nil
            for row in rows where row.reason == word.rawValue {
                #expect(row.details == (repeats ? ["RetryInfo"] : []), "\(row)")
            }
        }
    }

    @Test func theSamplesCoverEveryReasonOfAnOperation() {
        let ofAccess: Set<ErrorReason> = [
            .messageMalformed, .messageTooLarge, .credentialsMissing, .credentialsInvalid,
            .credentialsExpired, .scopeMissing, .methodNotAllowed, .serviceNotFound, .keysUnavailable,
        ]
        #expect(Set(Self.serviceErrors.map(\.reason)).union(ofAccess) == Set(ErrorReason.allCases))
    }
}
