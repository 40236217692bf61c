import CSignalboxProto
import CProtobufC
package import JobModel
import NIOCore
import Support

/// A google.rpc.Status, which is sent in `grpc-status-details-bin`: the parts of an error that programs read. It is
/// written by hand because its details are messages packed into google.protobuf.Any.
package struct StatusDetails: Sendable, Hashable {
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
    /// google.rpc.BadRequest.
    package var badRequest: [FieldViolation]
    /// google.rpc.RetryInfo.
    package var retryDelay: Duration?
    package var quota: Quota?
    package var resource: Resource?

    package init(
        code: Int, message: String, badRequest: [FieldViolation] = [], retryDelay: Duration? = nil,
        quota: Quota? = nil, resource: Resource? = nil
    ) {
        self.code = code
        self.message = message
        self.badRequest = badRequest
        self.retryDelay = retryDelay
        self.quota = quota
        self.resource = resource
    }

    /// The longest encoding, in bytes. Clients accept 8 KiB of metadata in all.
    package static let bytesMax = 4 << 10
    private static let messageBytesMax = 1 << 10
    private static let textBytesMax = 256
    /// The space for tags, lengths, type names and the retry delay.
    private static let otherBytesMax = 512
    private static let violationOverheadBytes = 12

    private static let typePrefix = "type.googleapis.com/"
    private static let badRequestType: ExactText = "\(typePrefix)google.rpc.BadRequest"
    private static let retryInfoType: ExactText = "\(typePrefix)google.rpc.RetryInfo"
    private static let quotaFailureType: ExactText = "\(typePrefix)google.rpc.QuotaFailure"
    private static let resourceInfoType: ExactText = "\(typePrefix)google.rpc.ResourceInfo"

    /// At most `bytesMax` bytes. Text is cut, and violations that do not fit are left out.
    package func encode() -> [UInt8] {
        let message = self.message.cut(toBytes: Self.messageBytesMax)
        let violations = violationsThatFit(
            bytes: Self.bytesMax - Self.otherBytesMax - message.utf8.count - 5 * Self.textBytesMax)
        let buffer = unsafe MessageArena.pack(google__rpc__status__init) { status, arena in
            unsafe status.code = Int32(clamping: code)
            unsafe status.message = arena.text(message)
            var details: [(type: ExactText, value: ProtobufCBinaryData)] = unsafe []
            if !violations.isEmpty {
                let badRequest = unsafe arena.make(google__rpc__bad_request__init) { detail in
                    unsafe (detail.n_field_violations, detail.field_violations) = arena.list(
                        violations, google__rpc__bad_request__field_violation__init
                    ) {
                        unsafe $0.field = arena.text($1.field)
                        unsafe $0.description = arena.text($1.description)
                    }
                }
                unsafe details.append((Self.badRequestType, arena.packed(badRequest)))
            }
            if let retryDelay {
                let retryInfo = unsafe arena.make(google__rpc__retry_info__init) {
                    unsafe $0.retry_delay = arena.duration(retryDelay)
                }
                unsafe details.append((Self.retryInfoType, arena.packed(retryInfo)))
            }
            if let quota {
                let quotaFailure = unsafe arena.make(google__rpc__quota_failure__init) { detail in
                    unsafe (detail.n_violations, detail.violations) = arena.list(
                        [quota], google__rpc__quota_failure__violation__init
                    ) {
                        unsafe $0.subject = arena.text($1.subject.cut(toBytes: Self.textBytesMax))
                        unsafe $0.description = arena.text($1.description.cut(toBytes: Self.textBytesMax))
                    }
                }
                unsafe details.append((Self.quotaFailureType, arena.packed(quotaFailure)))
            }
            if let resource {
                let resourceInfo = unsafe arena.make(google__rpc__resource_info__init) {
                    unsafe $0.resource_type = arena.text(resource.type.cut(toBytes: Self.textBytesMax))
                    unsafe $0.resource_name = arena.text(resource.name.cut(toBytes: Self.textBytesMax))
                    unsafe $0.description = arena.text(
                        resource.description.cut(toBytes: Self.textBytesMax))
                }
                unsafe details.append((Self.resourceInfoType, arena.packed(resourceInfo)))
            }
            unsafe (status.n_details, status.details) = arena.list(details, google__protobuf__any__init) {
                unsafe $0.type_url = arena.text($1.type)
                unsafe $0.value = $1.value
            }
        }
        return Array(buffer.readableBytesView)
    }

    private func violationsThatFit(bytes: Int) -> [FieldViolation] {
        var left = bytes
        var fitting: [FieldViolation] = []
        for violation in badRequest {
            let short = FieldViolation(
                field: violation.field.cut(toBytes: Self.textBytesMax),
                description: violation.description.cut(toBytes: Self.textBytesMax))
            left -= short.field.utf8.count + short.description.utf8.count + Self.violationOverheadBytes
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
        case Self.badRequestType:
            badRequest += try unsafe MessageArena.unpack(value, google__rpc__bad_request__unpack) { detail in
                unsafe reader.list(detail.n_field_violations, detail.field_violations) {
                    unsafe FieldViolation(
                        field: reader.answer($1.field, "field_violations[\($0)].field"),
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
