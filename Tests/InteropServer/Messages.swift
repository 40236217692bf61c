import NIOCore

// What the test service reads and writes of the messages of package grpc.testing: the numbers of their fields are
// those of grpc's messages.proto. Fields that ask for nothing that is served here are left out, as is the payload of
// requests where only its size on the wire matters. A field that comes twice counts as it comes last.

/// `EchoStatus`: the status with which the call is to end.
struct EchoStatus {
    private(set) var code: Int32 = 0
    private(set) var message = ""

    init(_ bytes: ByteBuffer) throws(WireError) {
        var reader = WireReader(bytes)
        while let field = try reader.next() {
            switch field {
            case (1, .varint(let value)): code = Int32(truncatingIfNeeded: value)
            case (2, .bytes(let value)): message = try text(value)
            default: break
            }
        }
    }
}

/// `SimpleRequest`, of UnaryCall.
struct SimpleRequest {
    private(set) var responseType: Int32 = 0
    private(set) var responseSize: Int32 = 0
    /// Nil: as the server likes.
    private(set) var responseCompressed: Bool?
    private(set) var responseStatus: EchoStatus?
    /// Nil: as the client likes.
    private(set) var expectCompressed: Bool?

    init(_ bytes: ByteBuffer) throws(WireError) {
        var reader = WireReader(bytes)
        while let field = try reader.next() {
            switch field {
            case (1, .varint(let value)): responseType = Int32(truncatingIfNeeded: value)
            case (2, .varint(let value)): responseSize = Int32(truncatingIfNeeded: value)
            case (6, .bytes(let value)): responseCompressed = try boolValue(value)
            case (7, .bytes(let value)): responseStatus = try EchoStatus(value)
            case (8, .bytes(let value)): expectCompressed = try boolValue(value)
            default: break
            }
        }
    }
}

/// `StreamingInputCallRequest`.
struct StreamingInputCallRequest {
    private(set) var payloadSize = 0
    /// Nil: as the client likes.
    private(set) var expectCompressed: Bool?

    init(_ bytes: ByteBuffer) throws(WireError) {
        var reader = WireReader(bytes)
        while let field = try reader.next() {
            switch field {
            case (1, .bytes(let value)): payloadSize = try bodySize(value)
            case (2, .bytes(let value)): expectCompressed = try boolValue(value)
            default: break
            }
        }
    }
}

/// `ResponseParameters`: one message of a streaming answer.
struct ResponseParameters {
    private(set) var size: Int32 = 0
    /// Between the last message and this one.
    private(set) var intervalMicroseconds: Int32 = 0
    /// Nil: as the server likes.
    private(set) var compressed: Bool?

    init(_ bytes: ByteBuffer) throws(WireError) {
        var reader = WireReader(bytes)
        while let field = try reader.next() {
            switch field {
            case (1, .varint(let value)): size = Int32(truncatingIfNeeded: value)
            case (2, .varint(let value)): intervalMicroseconds = Int32(truncatingIfNeeded: value)
            case (3, .bytes(let value)): compressed = try boolValue(value)
            default: break
            }
        }
    }
}

/// `StreamingOutputCallRequest`.
struct StreamingOutputCallRequest {
    private(set) var responseType: Int32 = 0
    private(set) var responseParameters: [ResponseParameters] = []
    private(set) var responseStatus: EchoStatus?

    /// In one message: each takes two bytes there, and many times that here.
    static let parametersMax = 10_000

    init(_ bytes: ByteBuffer) throws(WireError) {
        var reader = WireReader(bytes)
        while let field = try reader.next() {
            switch field {
            case (1, .varint(let value)): responseType = Int32(truncatingIfNeeded: value)
            case (2, .bytes(let value)):
                guard responseParameters.count < Self.parametersMax else {
                    throw WireError(message: "more than \(Self.parametersMax) response_parameters")
                }
                responseParameters.append(try ResponseParameters(value))
            case (7, .bytes(let value)): responseStatus = try EchoStatus(value)
            default: break
            }
        }
    }
}

/// `Empty`: whatever is in it, it must be a message.
func checkEmpty(_ bytes: ByteBuffer) throws(WireError) {
    var reader = WireReader(bytes)
    while try reader.next() != nil {}
}

/// `SimpleResponse` or `StreamingOutputCallResponse`: both have nothing but a payload, as field 1. It is of type
/// COMPRESSABLE, which is 0 and not written.
func payloadResponse(size: Int) -> ByteBuffer {
    var payload = WireWriter()
    payload.write(bytes: ByteBuffer(repeating: 0, count: size), field: 2)
    var response = WireWriter()
    response.write(bytes: payload.message, field: 1)
    return response.message
}

/// `StreamingInputCallResponse`.
func aggregateResponse(size: Int) -> ByteBuffer {
    var response = WireWriter()
    response.write(varint: UInt64(size), field: 1)
    return response.message
}

/// Of a `Payload`.
private func bodySize(_ bytes: ByteBuffer) throws(WireError) -> Int {
    var size = 0
    var reader = WireReader(bytes)
    while let field = try reader.next() {
        if case (2, .bytes(let body)) = field { size = body.readableBytes }
    }
    return size
}

/// The value of a `BoolValue`, the message that makes a boolean optional.
private func boolValue(_ bytes: ByteBuffer) throws(WireError) -> Bool {
    var isTrue = false
    var reader = WireReader(bytes)
    while let field = try reader.next() {
        if case (1, .varint(let value)) = field { isTrue = value != 0 }
    }
    return isTrue
}

private func text(_ bytes: ByteBuffer) throws(WireError) -> String {
    guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
        throw WireError(message: "a text is not UTF-8")
    }
    return text
}
