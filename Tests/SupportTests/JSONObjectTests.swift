import Support
import Testing

@Suite struct JSONObjectTests {
    private func members(_ text: String) -> [[String]]? {
        JSONObject(Array(text.utf8)[...])?.members.map {
            [String(decoding: $0.quotedKey, as: UTF8.self), String(decoding: $0.value, as: UTF8.self)]
        }
    }

    @Test func membersInTheirOrder() {
        #expect(members("{}") == [] && members(" { } ") == [])
        #expect(
            members(#"{"b":1,"a" : [1, {"c":2}] , "b":"}\",{"}"#) == [
                ["\"b\"", "1"], ["\"a\"", #"[1, {"c":2}]"#], ["\"b\"", #""}\",{""#],
            ])
        #expect(members("[]") == nil && members("1") == nil && members("") == nil)
    }

    @Test func theLastOfANameCounts() throws {
        let object = try #require(JSONObject(Array(#"{"a":1,"b":2,"a":3}"#.utf8)[...]))
        #expect(object["a"].map(Array.init) == Array("3".utf8) && object["c"] == nil)
        // Two spellings of one letter are two keys.
        let spellings = try #require(JSONObject(Array("{\"\u{E9}\":1,\"e\u{301}\":2}".utf8)[...]))
        #expect(spellings["\u{E9}"].map(Array.init) == Array("1".utf8))
    }

    /// Of a line that was cut anywhere.
    @Test func theFirstKeyOfWhatIsIncomplete() {
        let line = Array(#" {"result":{"a":[1,2]}}"#.utf8)
        for end in line.indices {
            let key = JSONObject.firstKey(of: line[..<end])
            if end >= 10 { #expect(key?.elementsEqual(Array(#""result""#.utf8)) == true) }
        }
    }
}
