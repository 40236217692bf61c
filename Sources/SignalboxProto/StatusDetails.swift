import CSignalboxProto
import CProtobufC
import JobModel
import NIOCore
import Support

/// A google.rpc.Status, which is sent in `grpc-status-details-bin`: the parts of an error that programs read. It is
/// written by hand because its details are messages packed into google.protobuf.Any.
package struct StatusDetails: Sendable, Hashable {
    /// google.rpc.ErrorInfo. Its domain is `StatusDetails.domain`.
    package struct ErrorInfo: Sendable, Hashable {
        package var reason: String
        /// The variable parts of the message, with keys in lowerCamelCase.
        // exact: the keys are the service's own words, in ASCII.
        package var metadata: [String: String]

        // exact: as above.
        package init(reason: String, metadata: [String: String] = [:]) {
            self.reason = reason
            self.metadata = metadata
        }
    }

    /// google.rpc.BadRequest.FieldViolation. The reason is text because a newer server may send one that is unknown here.
    package struct Violation: Sendable, Hashable {
        package var field: String
        package var reason: String
        package var description: String

        package init(field: String, reason: String, description: String) {
            self.field = field
            self.reason = reason
            self.description = description
        }
    }

    /// google.rpc.PreconditionFailure with one violation.
    package struct Precondition: Sendable, Hashable {
        package var type: String
        package var subject: String
        package var description: String

        package init(type: String, subject: String, description: String) {
            self.type = type
            self.subject = subject
            self.description = description
        }
    }

    /// google.rpc.ResourceInfo.
    package struct Resource: Sendable, Hashable {
        package var type: String
        package var name: String
        package var description: String

        package init(type: String, name: String, description: String) {
            self.type = type
            self.name = name
            self.description = description
        }
    }

    /// google.rpc.QuotaFailure with one violation.
    package struct Quota: Sendable, Hashable {
        /// The owner of the quota, as in `user:ada`.
        package var subject: String
        package var description: String

        package init(subject: String, description: String) {
            self.subject = subject
            self.description = description
        }
    }

    /// The number of a gRPC status.
    package var code: Int
    package var message: String
    /// Nil: the status comes from a server that does not say.
    package var errorInfo: ErrorInfo?
    /// google.rpc.BadRequest. At most `violationsMax` are sent.
    package var badRequest: [Violation]
    /// google.rpc.RetryInfo.
    package var retryDelay: Duration?
    package var quota: Quota?
    package var precondition: Precondition?
    package var resource: Resource?

    package init(
        code: Int, message: String, errorInfo: ErrorInfo? = nil, badRequest: [Violation] = [],
        retryDelay: Duration? = nil, quota: Quota? = nil, precondition: Precondition? = nil,
        resource: Resource? = nil
    ) {
        self.code = code
        self.message = message
        self.errorInfo = errorInfo
        self.precondition = precondition
        self.badRequest = badRequest
        self.retryDelay = retryDelay
        self.quota = quota
        self.resource = resource
    }

    /// The longest encoding, in bytes. Clients accept 8 KiB of metadata in all.
    package static let bytesMax = 4 << 10
    /// The most fields that an error names; a caller corrects a few at a time.
    package static let violationsMax = 20
    /// The logical grouping of the reasons (`ErrorInfo.domain`).
    package static let domain = "signalbox"
    private static let messageBytesMax = 512
    /// The limit of a name or a value, such as a user's id.
    private static let textBytesMax = 256
    /// The limit of a description, which repeats what the message says.
    private static let descriptionBytesMax = 128
    private static let metadataMax = 4
    private static let metadataKeyBytesMax = 32
    /// The space for tags, lengths, type names, the reason and the retry delay.
    private static let otherBytesMax = 512
    private static let violationOverheadBytes = 12

    private static let typePrefix = "type.googleapis.com/"
    private static let errorInfoType: ExactText = "\(typePrefix)google.rpc.ErrorInfo"
    private static let preconditionType: ExactText = "\(typePrefix)google.rpc.PreconditionFailure"
    private static let badRequestType: ExactText = "\(typePrefix)google.rpc.BadRequest"
    private static let retryInfoType: ExactText = "\(typePrefix)google.rpc.RetryInfo"
    private static let quotaFailureType: ExactText = "\(typePrefix)google.rpc.QuotaFailure"
    private static let resourceInfoType: ExactText = "\(typePrefix)google.rpc.ResourceInfo"

    /// At most `bytesMax` bytes. Text is cut, and violations that do not fit are left out.
    package func encode() -> [UInt8] {
        let buffer = unsafe MessageArena.pack(google__rpc__status__init) { status, arena in
            unsafe status.code = Int32(clamping: code)
            unsafe status.message = arena.text(message.cut(toBytes: Self.messageBytesMax))
            let details = unsafe [
                packErrorInfo(arena), packBadRequest(arena), packRetryInfo(arena), packQuota(arena),
                packPrecondition(arena), packResource(arena),
            ].compactMap { unsafe $0 }
            unsafe (status.n_details, status.details) = arena.list(details, google__protobuf__any__init) {
                unsafe $0.type_url = arena.text($1.type)
                unsafe $0.value = $1.value
            }
        }
        return Array(buffer.readableBytesView)
    }

    private typealias Packed = (type: ExactText, value: ProtobufCBinaryData)

    private func packErrorInfo(_ arena: borrowing MessageArena) -> Packed? {
        guard let errorInfo else { return nil }
        let metadata = errorInfo.metadata.sorted { $0.key < $1.key }.prefix(Self.metadataMax)
        let info = unsafe arena.make(google__rpc__error_info__init) {
            unsafe $0.reason = arena.text(errorInfo.reason)
            unsafe $0.domain = arena.text(Self.domain)
            unsafe ($0.n_metadata, $0.metadata) = arena.list(
                metadata, google__rpc__error_info__metadata_entry__init
            ) {
                unsafe $0.key = arena.text($1.key.cut(toBytes: Self.metadataKeyBytesMax))
                unsafe $0.value = arena.text($1.value.cut(toBytes: Self.textBytesMax))
            }
        }
        return unsafe (Self.errorInfoType, arena.packed(info))
    }

    private func packBadRequest(_ arena: borrowing MessageArena) -> Packed? {
        let violations = violationsThatFit
        guard !violations.isEmpty else { return nil }
        let detail = unsafe arena.make(google__rpc__bad_request__init) {
            unsafe ($0.n_field_violations, $0.field_violations) = arena.list(
                violations, google__rpc__bad_request__field_violation__init
            ) {
                unsafe $0.field = arena.text($1.field)
                unsafe $0.reason = arena.text($1.reason)
                unsafe $0.description = arena.text($1.description)
            }
        }
        return unsafe (Self.badRequestType, arena.packed(detail))
    }

    private func packRetryInfo(_ arena: borrowing MessageArena) -> Packed? {
        guard let retryDelay else { return nil }
        let detail = unsafe arena.make(google__rpc__retry_info__init) {
            unsafe $0.retry_delay = arena.duration(retryDelay)
        }
        return unsafe (Self.retryInfoType, arena.packed(detail))
    }

    private func packQuota(_ arena: borrowing MessageArena) -> Packed? {
        guard let quota else { return nil }
        let detail = unsafe arena.make(google__rpc__quota_failure__init) {
            unsafe ($0.n_violations, $0.violations) = arena.list(
                [quota], google__rpc__quota_failure__violation__init
            ) {
                unsafe $0.subject = arena.text($1.subject.cut(toBytes: Self.textBytesMax))
                unsafe $0.description = arena.text($1.description.cut(toBytes: Self.descriptionBytesMax))
            }
        }
        return unsafe (Self.quotaFailureType, arena.packed(detail))
    }

    private func packPrecondition(_ arena: borrowing MessageArena) -> Packed? {
        guard let precondition else { return nil }
        let detail = unsafe arena.make(google__rpc__precondition_failure__init) {
            unsafe ($0.n_violations, $0.violations) = arena.list(
                [precondition], google__rpc__precondition_failure__violation__init
            ) {
                unsafe $0.type = arena.text($1.type.cut(toBytes: Self.textBytesMax))
                unsafe $0.subject = arena.text($1.subject.cut(toBytes: Self.textBytesMax))
                unsafe $0.description = arena.text($1.description.cut(toBytes: Self.descriptionBytesMax))
            }
        }
        return unsafe (Self.preconditionType, arena.packed(detail))
    }

    private func packResource(_ arena: borrowing MessageArena) -> Packed? {
        guard let resource else { return nil }
        let detail = unsafe arena.make(google__rpc__resource_info__init) {
            unsafe $0.resource_type = arena.text(resource.type.cut(toBytes: Self.textBytesMax))
            unsafe $0.resource_name = arena.text(resource.name.cut(toBytes: Self.textBytesMax))
            unsafe $0.description = arena.text(resource.description.cut(toBytes: Self.descriptionBytesMax))
        }
        return unsafe (Self.resourceInfoType, arena.packed(detail))
    }

    /// The first violations, as many as there is room for next to the other details.
    private var violationsThatFit: [Violation] {
        var texts: [String] = []
        if let quota { texts += [quota.subject, quota.description] }
        if let precondition { texts += [precondition.type, precondition.subject, precondition.description] }
        if let resource { texts += [resource.type, resource.name, resource.description] }
        for (key, value) in errorInfo?.metadata ?? [:] { texts += [key, value] }
        var left = Self.bytesMax - Self.otherBytesMax - min(message.utf8.count, Self.messageBytesMax)
        // A text that is cut takes less than this.
        for text in texts { left -= min(text.utf8.count, Self.textBytesMax) + 3 }
        var fitting: [Violation] = []
        for violation in badRequest.prefix(Self.violationsMax) {
            let short = Violation(
                field: violation.field.cut(toBytes: Self.textBytesMax), reason: violation.reason,
                description: violation.description.cut(toBytes: Self.textBytesMax))
            left -= short.field.utf8.count + short.reason.utf8.count + short.description.utf8.count
            left -= Self.violationOverheadBytes
            guard left >= 0 else { break }
            fitting.append(short)
        }
        return fitting
    }

    /// Details of other types are ignored.
    package static func decode(_ bytes: [UInt8]) throws(DecodingError) -> StatusDetails {
        var reader = FieldReader()
        var others: [(type: ExactText, value: [UInt8])] = []
        var details = try unsafe MessageArena.unpack(ByteBuffer(bytes: bytes), google__rpc__status__unpack) {
            status in
            unsafe others = reader.list(status.n_details, status.details) {
                unsafe (reader.answer($1.type_url, "details[\($0)].type_url"), reader.bytes($1.value))
            }
            return unsafe StatusDetails(
                code: Int(status.code), message: reader.answer(status.message, "message"))
        }
        for (type, value) in others { try details.add(type, ByteBuffer(bytes: value), &reader) }
        if let violation = reader.violations.first { throw .invalid(violation) }
        return details
    }

    private mutating func add(
        _ type: ExactText, _ value: ByteBuffer, _ reader: inout FieldReader
    ) throws(DecodingError) {
        switch type {
        case Self.errorInfoType:
            errorInfo = try unsafe MessageArena.unpack(value, google__rpc__error_info__unpack) { detail in
                let entries: [(String, String)] = unsafe reader.list(detail.n_metadata, detail.metadata) {
                    unsafe (
                        reader.answer($1.key, "metadata[\($0)]"), reader.answer($1.value, "metadata[\($0)]")
                    )
                }
                return unsafe ErrorInfo(
                    reason: reader.answer(detail.reason, "reason"),
                    metadata: Dictionary(entries, uniquingKeysWith: { _, last in last }))
            }
        case Self.preconditionType:
            precondition = try unsafe MessageArena.unpack(
                value, google__rpc__precondition_failure__unpack
            ) { detail in
                unsafe reader.list(detail.n_violations, detail.violations) {
                    unsafe Precondition(
                        type: reader.answer($1.type, "violations[\($0)].type"),
                        subject: reader.answer($1.subject, "violations[\($0)].subject"),
                        description: reader.answer($1.description, "violations[\($0)].description"))
                }
            }.first
        case Self.badRequestType:
            badRequest += try unsafe MessageArena.unpack(value, google__rpc__bad_request__unpack) { detail in
                unsafe reader.list(detail.n_field_violations, detail.field_violations) {
                    unsafe Violation(
                        field: reader.answer($1.field, "field_violations[\($0)].field"),
                        reason: reader.answer($1.reason, "field_violations[\($0)].reason"),
                        description: reader.answer($1.description, "field_violations[\($0)].description"))
                }
            }
        case Self.retryInfoType:
            retryDelay = try unsafe MessageArena.unpack(value, google__rpc__retry_info__unpack) {
                unsafe reader.duration($0.retry_delay, "retry_delay")
            }
        case Self.quotaFailureType:
            quota = try unsafe MessageArena.unpack(value, google__rpc__quota_failure__unpack) { detail in
                unsafe reader.list(detail.n_violations, detail.violations) {
                    unsafe Quota(
                        subject: reader.answer($1.subject, "violations[\($0)].subject"),
                        description: reader.answer($1.description, "violations[\($0)].description"))
                }
            }.first
        case Self.resourceInfoType:
            resource = try unsafe MessageArena.unpack(value, google__rpc__resource_info__unpack) {
                unsafe Resource(
                    type: reader.answer($0.resource_type, "resource_type"),
                    name: reader.answer($0.resource_name, "resource_name"),
                    description: reader.answer($0.description, "description"))
            }
        default:
            break
        }
    }
}
