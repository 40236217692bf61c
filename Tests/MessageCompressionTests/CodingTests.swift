import MessageCompression
import NIOCore
import TestRandom
import Testing

@Suite struct CodingTests {
    private let text = ByteBuffer(string: String(repeating: "the same again, ", count: 10_000))

    @Test(arguments: Coding.allCases) func comesBackAsItWas(_ coding: Coding) throws {
        let compressed = try #require(coding.compress(text))
        #expect(compressed.readableBytes < text.readableBytes / 20)
        #expect(try coding.decompress(compressed, bytesMax: text.readableBytes) == text)
    }

    @Test(arguments: Coding.allCases, 0..<5 as Range<UInt64>)
    func whatDoesNotShrinkIsLeftAsItIs(_ coding: Coding, _ seed: UInt64) {
        #expect(coding.compress(ByteBuffer()) == nil)
        #expect(coding.compress(ByteBuffer(string: "short")) == nil)
        var random = SeededRandom(seed: seed)
        let noise = ByteBuffer(
            bytes: (0..<10_000).map { _ in UInt8.random(in: .min ... .max, using: &random) })
        #expect(coding.compress(noise) == nil)
    }

    @Test(arguments: Coding.allCases) func theLimitIsExact(_ coding: Coding) throws {
        let compressed = try #require(coding.compress(text))
        #expect(throws: DecompressionError.tooLarge) {
            try coding.decompress(compressed, bytesMax: text.readableBytes - 1)
        }
    }

    @Test(arguments: Coding.allCases) func everyCutIsCorrupt(_ coding: Coding) throws {
        let compressed = try #require(coding.compress(text))
        for count in 0..<compressed.readableBytes {
            let part = try #require(compressed.getSlice(at: compressed.readerIndex, length: count))
            #expect(throws: DecompressionError.corrupt) { try coding.decompress(part, bytesMax: 1 << 20) }
        }
    }

    @Test(arguments: Coding.allCases) func whatComesBehindTheEndIsCorrupt(_ coding: Coding) throws {
        var compressed = try #require(coding.compress(text))
        compressed.writeInteger(UInt8(0))
        #expect(throws: DecompressionError.corrupt) { try coding.decompress(compressed, bytesMax: 1 << 20) }
    }

    @Test func oneFormatIsNotTheOther() throws {
        let compressed = try #require(Coding.gzip.compress(text))
        #expect(throws: DecompressionError.corrupt) {
            try Coding.deflate.decompress(compressed, bytesMax: 1 << 20)
        }
    }

    /// 10 MiB of zeros in a few KiB.
    @Test func nothingIsAllocatedForABomb() throws {
        let zeros = ByteBuffer(repeating: 0, count: 10 << 20)
        let bomb = try #require(Coding.gzip.compress(zeros))
        #expect(throws: DecompressionError.tooLarge) { try Coding.gzip.decompress(bomb, bytesMax: 4096) }
    }
}
