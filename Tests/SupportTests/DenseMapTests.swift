import Support
import Testing

@Suite struct DenseMapTests {
    /// It holds what a dictionary holds, and its order depends on the changes alone.
    @Test func agreesWithADictionary() {
        var random = SystemRandomNumberGenerator()
        let seed = UInt64.random(in: .min ... .max, using: &random)
        var first = DenseMap<Int, Int>()
        var second = DenseMap<Int, Int>()
        var expected: [Int: Int] = [:]
        var state = seed
        for step in 0..<2000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let key = Int(state >> 33) % 40
            let value = (state >> 20) % 3 == 0 ? nil : step
            first[key] = value
            second[key] = value
            expected[key] = value
            #expect(first[key] == value)
            #expect(first.count == expected.count && first.isEmpty == expected.isEmpty, "seed \(seed)")
            #expect(first.values == second.values)
        }
        #expect(first.values.sorted() == expected.values.sorted())
        for key in 0..<40 { #expect(first[key] == expected[key], "seed \(seed)") }
    }

    @Test func theLastTakesTheSlotOfARemovedValue() {
        var map = DenseMap<String, Int>()
        for (index, key) in ["a", "b", "c", "d"].enumerated() { map[key] = index }
        map["b"] = nil
        #expect(map.values == [0, 3, 2])
        map["c"] = nil
        map["missing"] = nil
        #expect(map.values == [0, 3])
        map["d"] = 7
        #expect(map.values == [0, 7])
    }
}
