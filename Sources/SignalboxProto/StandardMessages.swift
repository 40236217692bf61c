import CSignalboxProto
import CProtobufC
package import JobModel
package import NIOCore
package import Support

// Health (grpc/health/v1/health.proto) and server reflection (grpc/reflection/v1/reflection.proto; v1alpha
// is the same on the wire).

// MARK: - Health

package struct HealthCheckRequest: RequestMessage, Hashable {
    /// Empty: the whole server.
    package var service: ExactText

    package init(service: ExactText = "") {
        self.service = service
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> HealthCheckRequest {
        try unsafe decode(bytes, grpc__health__v1__health_check_request__unpack, into: &violations) {
            unsafe HealthCheckRequest(service: $1.name($0.service, "service"))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(grpc__health__v1__health_check_request__init) { message, arena in
            unsafe message.service = arena.text(service)
        }
    }
}

package struct HealthCheckResponse: ResponseMessage, Hashable {
    package enum Status: Sendable, Hashable, CaseIterable {
        case unknown, serving, notServing
        /// Only in the answers of Watch.
        case serviceUnknown
    }

    package var status: Status

    package init(status: Status) {
        self.status = status
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> HealthCheckResponse {
        try unsafe decode(bytes, grpc__health__v1__health_check_response__unpack) { message, _ in
            unsafe HealthCheckResponse(status: Status(onWire: message.status))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(grpc__health__v1__health_check_response__init) { message, _ in
            unsafe message.status = status.onWire
        }
    }
}

extension HealthCheckResponse.Status {
    fileprivate init(onWire value: Grpc__Health__V1__HealthCheckResponse__ServingStatus) {
        switch value {
        case GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING: self = .serving
        case GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING: self = .notServing
        case GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN:
            self = .serviceUnknown
        default: self = .unknown
        }
    }

    fileprivate var onWire: Grpc__Health__V1__HealthCheckResponse__ServingStatus {
        switch self {
        case .unknown: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__UNKNOWN
        case .serving: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
        case .notServing: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
        case .serviceUnknown: GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
        }
    }
}

// MARK: - Reflection

package struct ServerReflectionRequest: RequestMessage, Hashable {
    package enum Question: Sendable, Hashable {
        /// None that this version knows.
        case none
        case fileByName(ExactText)
        case fileContainingSymbol(ExactText)
        case fileContainingExtension(type: ExactText, number: Int32)
        case allExtensionNumbers(type: ExactText)
        /// What the text says does not matter.
        case listServices(ExactText)
    }

    package var host: ExactText
    package var question: Question

    package init(host: ExactText = "", question: Question) {
        self.host = host
        self.question = question
    }

    package static func decode(
        _ bytes: ByteBuffer, into violations: inout [FieldViolation]
    ) throws(DecodingError) -> ServerReflectionRequest {
        try unsafe decode(
            bytes, grpc__reflection__v1__server_reflection_request__unpack, into: &violations
        ) { message, reader in
            unsafe reader.reflectionRequest(message)
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(grpc__reflection__v1__server_reflection_request__init) { message, arena in
            unsafe arena.fill(&message, with: self)
        }
    }
}

package struct ServerReflectionResponse: ResponseMessage, Hashable {
    package enum Answer: Sendable, Hashable {
        /// Each a serialised google.protobuf.FileDescriptorProto.
        case files([[UInt8]])
        case extensionNumbers(type: ExactText, [Int32])
        case services([ExactText])
        /// The code is that of a gRPC status.
        case error(code: Int, message: String)
    }

    /// Echoed, and its host as the valid one.
    package var request: ServerReflectionRequest
    package var answer: Answer

    package init(request: ServerReflectionRequest, answer: Answer) {
        self.request = request
        self.answer = answer
    }

    package static func decode(_ bytes: ByteBuffer) throws(DecodingError) -> ServerReflectionResponse {
        try unsafe decode(bytes, grpc__reflection__v1__server_reflection_response__unpack) {
            message, reader in
            let request = unsafe message.original_request?.pointee
            return unsafe ServerReflectionResponse(
                request: request.map { unsafe reader.reflectionRequest($0) }
                    ?? ServerReflectionRequest(question: .none),
                answer: reader.reflectionAnswer(message))
        }
    }

    package func encode() -> ByteBuffer {
        unsafe MessageArena.pack(grpc__reflection__v1__server_reflection_response__init) { message, arena in
            unsafe message.valid_host = arena.text(request.host)
            unsafe message.original_request = arena.make(
                grpc__reflection__v1__server_reflection_request__init
            ) { unsafe arena.fill(&$0, with: request) }
            unsafe arena.fill(&message, with: answer)
        }
    }
}

extension FieldReader {
    /// The name of a service, file, symbol or host: nothing that a caller can ask for has a longer one.
    fileprivate mutating func name(
        _ data: ProtobufCBinaryData, _ field: @autoclosure () -> String
    ) -> ExactText {
        unsafe text(data, field(), bytesMax: 1024)
    }

    fileprivate mutating func reflectionRequest(
        _ message: Grpc__Reflection__V1__ServerReflectionRequest
    ) -> ServerReflectionRequest {
        var request = unsafe ServerReflectionRequest(host: name(message.host, "host"), question: .none)
        switch unsafe message.message_request_case {
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
            unsafe request.question = .fileByName(name(message.file_by_filename, "file_by_filename"))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
            unsafe request.question = .fileContainingSymbol(
                name(message.file_containing_symbol, "file_containing_symbol"))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
            guard let asked = unsafe message.file_containing_extension?.pointee else { break }
            unsafe request.question = .fileContainingExtension(
                type: name(asked.containing_type, "file_containing_extension.containing_type"),
                number: asked.extension_number)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
            unsafe request.question = .allExtensionNumbers(
                type: name(message.all_extension_numbers_of_type, "all_extension_numbers_of_type"))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
            unsafe request.question = .listServices(name(message.list_services, "list_services"))
        default:
            break
        }
        return request
    }

    fileprivate mutating func reflectionAnswer(
        _ message: Grpc__Reflection__V1__ServerReflectionResponse
    ) -> ServerReflectionResponse.Answer {
        switch unsafe message.message_response_case {
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE:
            guard let files = unsafe message.file_descriptor_response?.pointee else { break }
            return unsafe .files(
                values(files.n_file_descriptor_proto, files.file_descriptor_proto).map { unsafe bytes($0) })
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE:
            guard let answer = unsafe message.all_extension_numbers_response?.pointee else { break }
            return unsafe .extensionNumbers(
                type: answerText(
                    answer.base_type_name, "all_extension_numbers_response.base_type_name"),
                values(answer.n_extension_number, answer.extension_number))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
            guard let answer = unsafe message.list_services_response?.pointee else { break }
            return unsafe .services(
                list(answer.n_service, answer.service) {
                    unsafe answerText($1.name, "list_services_response.service[\($0)].name")
                })
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
            guard let answer = unsafe message.error_response?.pointee else { break }
            return unsafe .error(
                code: Int(answer.error_code),
                message: answerText(answer.error_message, "error_response.error_message").text)
        default:
            break
        }
        add("message_response", "is required")
        return .files([])
    }
}

extension MessageArena {
    fileprivate func fill(
        _ message: inout Grpc__Reflection__V1__ServerReflectionRequest, with request: ServerReflectionRequest
    ) {
        unsafe message.host = text(request.host)
        switch request.question {
        case .none:
            break
        case .fileByName(let name):
            unsafe message.message_request_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME
            unsafe message.file_by_filename = text(name)
        case .fileContainingSymbol(let name):
            unsafe message.message_request_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL
            unsafe message.file_containing_symbol = text(name)
        case .fileContainingExtension(let type, let number):
            unsafe message.message_request_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION
            unsafe message.file_containing_extension = make(grpc__reflection__v1__extension_request__init) {
                unsafe $0.containing_type = text(type)
                unsafe $0.extension_number = number
            }
        case .allExtensionNumbers(let type):
            unsafe message.message_request_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE
            unsafe message.all_extension_numbers_of_type = text(type)
        case .listServices(let what):
            unsafe message.message_request_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES
            unsafe message.list_services = text(what)
        }
    }

    fileprivate func fill(
        _ message: inout Grpc__Reflection__V1__ServerReflectionResponse,
        with answer: ServerReflectionResponse.Answer
    ) {
        switch answer {
        case .files(let files):
            unsafe message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE
            unsafe message.file_descriptor_response = make(
                grpc__reflection__v1__file_descriptor_response__init
            ) {
                unsafe ($0.n_file_descriptor_proto, $0.file_descriptor_proto) = array(files) {
                    unsafe bytes($0)
                }
            }
        case .extensionNumbers(let type, let numbers):
            unsafe message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE
            unsafe message.all_extension_numbers_response = make(
                grpc__reflection__v1__extension_number_response__init
            ) {
                unsafe $0.base_type_name = text(type)
                unsafe ($0.n_extension_number, $0.extension_number) = array(numbers) { $0 }
            }
        case .services(let services):
            unsafe message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE
            unsafe message.list_services_response = make(
                grpc__reflection__v1__list_service_response__init
            ) {
                unsafe ($0.n_service, $0.service) = list(
                    services, grpc__reflection__v1__service_response__init
                ) { unsafe $0.name = text($1) }
            }
        case .error(let code, let description):
            unsafe message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE
            unsafe message.error_response = make(grpc__reflection__v1__error_response__init) {
                unsafe $0.error_code = Int32(clamping: code)
                unsafe $0.error_message = text(description)
            }
        }
    }
}
