import HTTP2
import Testing

@Suite struct FrameScannerTests {
    private func frame(_ type: UInt8, flags: UInt8 = 0, payload: Int = 0) -> [UInt8] {
        [UInt8(payload >> 16), UInt8(payload >> 8 & 0xff), UInt8(payload & 0xff), type, flags, 0, 0, 0, 1]
            + [UInt8](repeating: 0x2a, count: payload)
    }

    private func count(_ bytes: [UInt8], preface: Int = 0, step: Int = .max) -> Int {
        var scanner = FrameScanner(prefaceBytes: preface)
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = Array(rest.prefix(step))
            part.withUnsafeBytes { scanner.scan($0) }
            rest = rest.dropFirst(part.count)
        }
        return scanner.overheadFrames
    }

    @Test(arguments: [0x2, 0x4, 0x6, 0x7, 0x8, 0xa, 0x10, 0xff] as [UInt8]) func framesThatSayNothingCount(
        _ type: UInt8
    ) {
        #expect(count(frame(type)) == 1)
        #expect(count(frame(type, payload: 300)) == 1)
    }

    @Test(arguments: [0x1, 0x3, 0x5, 0x9] as [UInt8]) func framesOfCallsDoNot(_ type: UInt8) {
        #expect(count(frame(type, payload: 4)) == 0)
    }

    @Test func dataCountsWhenItHasNone() {
        #expect(count(frame(0)) == 1)
        #expect(count(frame(0, payload: 1)) == 0)
        #expect(count(frame(0, flags: 0x1)) == 0)
        #expect(count(frame(0, flags: 0x8, payload: 1)) == 1)
    }

    /// Frames inside of payloads are none, wherever the bytes are cut.
    @Test(arguments: [1, 2, 7, 9, 10, 64, 4_096]) func cutsDoNotMatter(_ step: Int) {
        let hidden = frame(0, payload: 0)
        let outer = [0, 0, UInt8(hidden.count), 0, 0, 0, 0, 0, 1] + hidden
        let bytes =
            [UInt8](repeating: 0, count: 24) + frame(4, payload: 18) + outer + frame(6, payload: 8)
            + frame(1, flags: 5, payload: 70_000) + frame(8, payload: 4)
        #expect(count(bytes, preface: 24, step: step) == 3)
    }
}
