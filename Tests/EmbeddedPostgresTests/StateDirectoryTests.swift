import Testing

@testable import EmbeddedPostgres

@Suite struct StateDirectoryTests {
    @Test func pathsThatCannotWork() throws {
        for path in ["/a,b", "/a'b", "/a$b", "/a\"b", "/a\nb", "/" + String(repeating: "long/", count: 20)] {
            #expect { try StateDirectory(path) } throws: {
                ($0 as? EmbeddedPostgresError)?.code == .stateDirectory
            }
        }
        #expect(try StateDirectory("/a b//").path == "/a b")
        // The longest socket's path that fits has 107 bytes.
        let longest = "/" + String(repeating: "x", count: 107 - 1 - "/run/.s.PGSQL.5432".utf8.count)
        #expect(try StateDirectory(longest).path == longest)
        #expect { try StateDirectory(longest + "x") } throws: { "\($0)".contains("too long by 1 bytes") }
    }
}
