import HTTP2
import MessageCompression
import NIOCore
import Testing

@testable import GRPC

@Suite struct WireFormatTests {
    @Test(arguments: [
        ("1H", Duration.seconds(3600)), ("2M", .seconds(120)), ("99999999S", .seconds(99_999_999)),
        ("5m", .milliseconds(5)), ("7u", .microseconds(7)), ("0n", .zero),
    ])
    func timeouts(_ text: String, _ duration: Duration) {
        #expect(Timeout.decode(Array(text.utf8)) == duration)
    }

    @Test(arguments: ["", "H", "1", "123456789S", "-1S", "1.5S", "1 S", "1x", "S1"])
    func malformedTimeouts(_ text: String) {
        #expect(Timeout.decode(Array(text.utf8)) == nil)
    }

    @Test(arguments: [
        Duration.nanoseconds(5), .milliseconds(1), .milliseconds(1_500), .seconds(98), .seconds(100),
        .seconds(100_000), .milliseconds(100_000_001), .seconds(100_000_001), .seconds(1_000_000_000),
    ])
    func timeoutsGoRound(_ duration: Duration) throws {
        let text = Timeout.encode(duration)
        #expect(text.utf8.count <= 9)
        let decoded = try #require(Timeout.decode(Array(text.utf8)))
        #expect(decoded >= duration && decoded < duration * 1.001)
    }

    @Test func aTimeoutWithoutEndIsOfAHundredYears() {
        #expect(Timeout.encode(.seconds(Int64.max)) == "876000H")
        #expect(Timeout.encode(.seconds(-1)) == "0n")
    }

    @Test(arguments: [
        ("plain", "plain"), ("100%", "100%25"), ("é\n", "%C3%A9%0A"), ("", ""),
    ])
    func percentEncoding(_ text: String, _ encoded: String) {
        #expect(PercentEncoding.encode(text, bytesMax: 100) == Array(encoded.utf8))
        #expect(PercentEncoding.decode(Array(encoded.utf8)) == text)
    }

    @Test func percentEncodingCutsWholeCharacters() {
        #expect(PercentEncoding.encode("aéé", bytesMax: 10) == Array("a%C3%A9".utf8))
        #expect(PercentEncoding.decode(Array("%zz%4".utf8)) == "%zz%4")
    }

    @Test func metadataFromFields() {
        let metadata = Metadata(
            HeaderBlock([
                (":path", "/x"), ("te", "trailers"), ("content-type", "application/grpc"),
                ("grpc-timeout", "1S"),
                ("a", "1"), ("b-bin", "AQI=, AwQ"), ("a", "2"), ("c-bin", "*"),
            ]))
        #expect(metadata.values(for: "A") == ["1", "2"])
        #expect(metadata["a"] == "1")
        #expect(metadata.bytes(for: "b-bin") == [[1, 2], [3, 4]])
        #expect(metadata.bytes(for: "c-bin").isEmpty)
        #expect(metadata["te"] == nil)
    }

    @Test func metadataToFields() {
        var metadata: Metadata = ["Key": "va\nlue", "grpc-status": "3", "bad key": "x"]
        metadata.add(bytes: [0xff], for: "k-bin")
        var fields = HeaderFields()
        metadata.append(to: &fields)
        #expect(fields == HeaderFields(["key": "va?lue", "k-bin": "/w"]))
    }
}

@Suite struct MessageReaderTests {
    private func framed(_ message: [UInt8]) -> [UInt8] {
        [0, 0, 0, 0, UInt8(message.count)] + message
    }

    @Test(arguments: [true, false]) func bytesOneByOne(_ sharesMemory: Bool) throws {
        var reader = MessageReader(messageBytesMax: 10, sharesMemory: sharesMemory)
        var messages: [[UInt8]] = []
        for byte in framed([1, 2, 3]) + framed([]) + framed([4]) {
            reader.append(ByteBuffer(bytes: [byte]))
            while let message = try reader.next().get() { messages.append(Array(message.readableBytesView)) }
        }
        #expect(messages == [[1, 2, 3], [], [4]])
        #expect(reader.isEmpty)
    }

    @Test func limitIsSeenAtThePrefix() {
        var reader = MessageReader(messageBytesMax: 10, sharesMemory: true)
        reader.append(ByteBuffer(bytes: [0, 0, 0, 0, 11]))
        #expect(throws: Status.self) { try reader.next().get() }
        guard case .failure(let status) = reader.check() else {
            Issue.record("allowed")
            return
        }
        #expect(status.code == .resourceExhausted)
    }

    @Test(arguments: [UInt8(1), 2, 255]) func flags(_ flag: UInt8) {
        var reader = MessageReader(messageBytesMax: 10, sharesMemory: true)
        reader.append(ByteBuffer(bytes: [flag]))
        guard case .failure(let status) = reader.next() else {
            Issue.record("allowed")
            return
        }
        #expect(status.code == .internalError)
    }

    @Test(arguments: [true, false]) func compressedMessages(_ sharesMemory: Bool) throws {
        let text = ByteBuffer(string: String(repeating: "again ", count: 100))
        let compressed = try #require(Coding.gzip.compress(text))
        let frame = [1, 0, 0, 0, UInt8(compressed.readableBytes)] + Array(compressed.readableBytesView)
        var reader = MessageReader(messageBytesMax: 600, sharesMemory: sharesMemory, coding: .gzip)
        reader.append(ByteBuffer(bytes: frame + framed([7]) + frame.dropLast()))
        #expect(try reader.next().get() == text && reader.wasCompressed)
        #expect(try reader.next().get() == ByteBuffer(bytes: [7]) && !reader.wasCompressed)
        #expect(try reader.next().get() == nil)
        reader.append(ByteBuffer(bytes: frame.suffix(1)))
        #expect(try reader.next().get() == text && reader.isEmpty)
    }

    @Test func whatIsTooLargeOnlyWhenDecompressedIsRefused() throws {
        let compressed = try #require(Coding.deflate.compress(ByteBuffer(repeating: 0, count: 1_001)))
        var reader = MessageReader(messageBytesMax: 1_000, sharesMemory: true, coding: .deflate)
        reader.append(
            ByteBuffer(
                bytes: [1, 0, 0, 0, UInt8(compressed.readableBytes)] + Array(compressed.readableBytesView)))
        guard case .failure(let status) = reader.next() else {
            Issue.record("allowed")
            return
        }
        #expect(status.code == .resourceExhausted)
    }

    @Test(arguments: [true, false]) func whatWasTakenIsNotKept(_ sharesMemory: Bool) throws {
        var reader = MessageReader(messageBytesMax: 100, sharesMemory: sharesMemory)
        let frame = framed([UInt8](repeating: 1, count: 100))
        // Each part ends one byte into the next message.
        reader.append(ByteBuffer(bytes: frame + frame.prefix(1)))
        for _ in 0..<10_000 {
            #expect(try reader.next().get()?.readableBytes == 100)
            reader.append(ByteBuffer(bytes: frame.dropFirst() + frame.prefix(1)))
        }
        #expect(reader.buffer.capacity < 4_096)
    }

    @Test func whatStaysLetsGoOfWhatItCameWith() throws {
        var reader = MessageReader(messageBytesMax: 100, sharesMemory: true)
        var received = ByteBuffer(repeating: 9, count: 60_000)
        received.writeBytes(framed([1, 2, 3]).dropLast())
        received.moveReaderIndex(forwardBy: 60_000)
        reader.append(received)
        #expect(reader.buffer.storageCapacity >= 60_000)
        reader.keep()
        #expect(reader.buffer.storageCapacity < 32)
        reader.append(ByteBuffer(bytes: [3]))
        #expect(try reader.next().get() == ByteBuffer(bytes: [1, 2, 3]))
    }

    @Test func windowIsGivenBackForWhatIsTaken() throws {
        var reader = MessageReader(messageBytesMax: 1 << 20, sharesMemory: false)
        let message = [UInt8](repeating: 1, count: 20_000)
        let frame = [0, 0, 0, UInt8(20_000 >> 8), UInt8(20_000 & 0xff)] + message
        reader.append(ByteBuffer(bytes: frame + frame))
        #expect(reader.takeReleasedBytes() == 0)
        _ = try reader.next().get()
        #expect(reader.takeReleasedBytes() == 20_005)
        _ = try reader.next().get()
        // The next message is waited for: all of the window is its.
        #expect(reader.takeReleasedBytes() == 20_005)
    }

    @Test func windowIsGivenBackForAnIncompleteMessage() {
        var reader = MessageReader(messageBytesMax: 1 << 20, sharesMemory: false)
        reader.append(ByteBuffer(bytes: [0, 0, 1, 0, 0] + [UInt8](repeating: 1, count: 30_000)))
        #expect(reader.takeReleasedBytes() == 30_005)
        #expect(reader.takeReleasedBytes() == 0)
    }
}
