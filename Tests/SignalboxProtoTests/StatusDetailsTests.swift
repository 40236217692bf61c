import SignalboxProto
import NIOCore
import Testing

@Suite struct StatusDetailsTests {
    private func violation(_ index: Int) -> StatusDetails.Violation {
        .init(field: "jobs[\(index)].kind", reason: "REQUIRED", description: "is required")
    }

    @Test func roundTrip() throws {
        let plain = StatusDetails(code: 14, message: "try again")
        #expect(try StatusDetails.decode(plain.encode()) == plain)
        let full = StatusDetails(
            code: 3, message: "bad", errorInfo: .init(reason: "X", metadata: ["b": "2", "a": "é"]),
            badRequest: [violation(0), violation(1)],
            retryDelay: .milliseconds(1500), quota: .init(subject: "user:ada", description: "is used up"),
            precondition: .init(type: "X", subject: "y", description: "is off"),
            resource: .init(type: "signalbox.v1.Job", name: "x", description: "is there"))
        #expect(try StatusDetails.decode(full.encode()) == full)
    }

    @Test func theTypeIsTheOneClientsKnow() {
        let bytes = StatusDetails(code: 3, message: "", badRequest: [violation(0)]).encode()
        let inner = Wire.bytes(
            1, Wire.text(1, "jobs[0].kind") + Wire.text(2, "is required") + Wire.text(3, "REQUIRED"))
        let any = Wire.text(1, "type.googleapis.com/google.rpc.BadRequest") + Wire.bytes(2, inner)
        #expect(bytes == Wire.number(1, 3) + Wire.bytes(3, any))
    }

    @Test func itNeverOutgrowsItsLimit() throws {
        let long = String(repeating: "é", count: 5000)
        let details = StatusDetails(
            code: 3, message: long,
            errorInfo: .init(
                reason: "X",
                metadata: Dictionary(uniqueKeysWithValues: (0..<9).map { ("\($0)\(long)", long) })),
            badRequest: (0..<10_000).map(violation),
            retryDelay: .seconds(1), quota: .init(subject: long, description: long),
            precondition: .init(type: long, subject: long, description: long),
            resource: .init(type: long, name: long, description: long))
        let bytes = details.encode()
        #expect(bytes.count <= StatusDetails.bytesMax)
        let decoded = try StatusDetails.decode(bytes)
        #expect(decoded.errorInfo?.reason == "X" && decoded.errorInfo?.metadata.count == 4)

        let many = StatusDetails(
            code: 3, message: "bad", errorInfo: .init(reason: "X"),
            badRequest: (0..<10_000).map(violation))
        #expect(try StatusDetails.decode(many.encode()).badRequest == (0..<20).map(violation))
        let wide = StatusDetails.Violation(field: long, reason: "REQUIRED", description: long)
        let few = StatusDetails(code: 3, message: "bad", badRequest: Array(repeating: wide, count: 50))
        let bytesOfFew = few.encode()
        #expect(bytesOfFew.count <= StatusDetails.bytesMax)
        #expect((1..<20).contains(try StatusDetails.decode(bytesOfFew).badRequest.count))
    }

    @Test func otherDetailsAreIgnored() throws {
        let any = Wire.text(1, "type.googleapis.com/google.rpc.DebugInfo") + Wire.bytes(2, [0xFF])
        let decoded = try StatusDetails.decode(Wire.number(1, 5) + Wire.bytes(3, any))
        #expect(decoded == StatusDetails(code: 5, message: ""))
    }

    @Test func malformedDetails() {
        let any = Wire.text(1, "type.googleapis.com/google.rpc.BadRequest") + Wire.bytes(2, [0xFF])
        #expect(throws: DecodingError.malformed) { try StatusDetails.decode(Wire.bytes(3, any)) }
    }
}
