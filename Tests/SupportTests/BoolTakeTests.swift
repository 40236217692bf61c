import Support
import Testing

@Suite struct BoolTakeTests {
    @Test func isTakenOnce() {
        var isSet = true
        #expect(isSet.take() && !isSet.take() && !isSet)
    }
}
