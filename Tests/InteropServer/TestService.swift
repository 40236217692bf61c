import NIOCore
import GRPC

/// `grpc.testing.TestService` as grpc's interop-test-descriptions.md has it. UnimplementedCall is left out on
/// purpose: clients call it to see how a server answers for what it does not have. So is CacheableUnaryCall, which
/// is for caching proxies.
enum TestService {
    static let methods: [Method] = [
        .unary(path("EmptyCall"), emptyCall),
        .unary(path("UnaryCall"), unaryCall),
        .bidirectional(path("StreamingInputCall"), streamingInputCall),
        .serverStreaming(path("StreamingOutputCall"), streamingOutputCall),
        .bidirectional(path("FullDuplexCall"), fullDuplexCall),
        .bidirectional(path("HalfDuplexCall"), halfDuplexCall),
    ]

    /// What a half-duplex call keeps until its client has said all.
    private static let keptResponsesMax = 10_000

    private static func path(_ method: String) -> String { "/grpc.testing.TestService/\(method)" }

    private static func emptyCall(message: ByteBuffer, context: ServerContext) async throws -> ByteBuffer {
        echoMetadata(of: context)
        try checkEmpty(message)
        return ByteBuffer()
    }

    private static func unaryCall(message: ByteBuffer, context: ServerContext) async throws -> ByteBuffer {
        echoMetadata(of: context)
        let request = try SimpleRequest(message)
        try check(expectCompressed: request.expectCompressed, in: context)
        try request.responseStatus?.end()
        let response = try PlannedResponse(
            type: request.responseType, size: request.responseSize, compressed: request.responseCompressed)
        let isCompressed = response.compressed ?? context.requestWasCompressed
        if isCompressed { context.announceCoding() } else { context.responseCoding = nil }
        return payloadResponse(size: response.size)
    }

    private static func streamingInputCall(
        requests: RequestStream, context: ServerContext, writer: ResponseWriter
    ) async throws {
        echoMetadata(of: context)
        var size = 0
        for try await message in requests {
            let request = try StreamingInputCallRequest(message)
            try check(expectCompressed: request.expectCompressed, in: context)
            size += request.payloadSize
            // The answer's field is an int32.
            guard size <= Int32.max else {
                throw Status(.outOfRange, "the payloads together have more than \(Int32.max) bytes")
            }
        }
        try await writer.write(aggregateResponse(size: size))
    }

    private static func streamingOutputCall(
        message: ByteBuffer, context: ServerContext, writer: ResponseWriter
    ) async throws {
        echoMetadata(of: context)
        let request = try StreamingOutputCallRequest(message)
        try request.responseStatus?.end()
        let responses = try request.planned()
        context.announceCoding()
        try await writer.write(responses, asCompressed: context.requestWasCompressed)
    }

    /// Answers each request as it comes.
    private static func fullDuplexCall(
        requests: RequestStream, context: ServerContext, writer: ResponseWriter
    ) async throws {
        echoMetadata(of: context)
        context.announceCoding()
        for try await message in requests {
            let request = try StreamingOutputCallRequest(message)
            try request.responseStatus?.end()
            try await writer.write(request.planned(), asCompressed: context.requestWasCompressed)
        }
    }

    /// Answers nothing before the client has said all.
    private static func halfDuplexCall(
        requests: RequestStream, context: ServerContext, writer: ResponseWriter
    ) async throws {
        echoMetadata(of: context)
        context.announceCoding()
        var responses: [PlannedResponse] = []
        for try await message in requests {
            let request = try StreamingOutputCallRequest(message)
            try request.responseStatus?.end()
            responses += try request.planned()
            guard responses.count <= keptResponsesMax else {
                throw Status(.resourceExhausted, "more than \(keptResponsesMax) answers to keep")
            }
        }
        try await writer.write(responses, asCompressed: context.requestWasCompressed)
    }
}
