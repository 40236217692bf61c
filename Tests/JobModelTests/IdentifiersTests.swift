import FoundationEssentials
import JobModel
import TestRandom
import Testing

@Suite struct IdentifiersTests {
    /// RFC 9562, appendix A.6: 2022-02-22 14:22:22 EST, rand_a CC3, rand_b 18C4DC0C0C07398F.
    @Test func exampleOfTheRFC() {
        let id = JobID.version7(milliseconds: 0x017F_22E2_79B0, random: (0xCC3, 0x18C4_DC0C_0C07_398F))
        #expect(id.description == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    }

    @Test func versionAndVariantWhateverTheRandomBits() {
        for bits: UInt64 in [0, .max, 0xF000_0000_0000_0000, 0x0FFF] {
            let text = JobID.version7(milliseconds: 0xFFFF_FFFF_FFFF, random: (bits, bits)).description
            let characters = Array(text)
            #expect(characters[14] == "7")
            #expect("89ab".contains(characters[19]))
            #expect(text.hasPrefix("ffffffff-ffff-7"))
        }
    }

    @Test func laterIdsSortLater() {
        var random = SeededRandom(seed: 7)
        var texts: [String] = []
        for step: Int64 in 0..<1000 {
            let bits = (random.next(), random.next())
            texts.append(JobID.version7(milliseconds: 1_700_000_000_000 + step, random: bits).description)
        }
        #expect(texts == texts.sorted())
        #expect(Set(texts).count == 1000)
    }

    @Test func idsOfOneMillisecondSortAsTheyWereMade() {
        var random = SeededRandom(seed: 8)
        var sequence = JobIDSequence()
        var draws = 0
        var texts: [String] = []
        for step: Int64 in 0..<3000 {
            let id = sequence.next(milliseconds: 1_700_000_000_000 + step / 1000) {
                draws += 1
                return (random.next(), random.next())
            }
            texts.append(id.description)
        }
        #expect(texts == texts.sorted())
        #expect(Set(texts).count == 3000)
        #expect(draws == 3)
        for text in texts {
            let characters = Array(text)
            #expect(characters[14] == "7" && "89ab".contains(characters[19]))
        }
    }

    /// Neither version nor variant is touched by what does not fit.
    @Test func aFullRandomPartIsDrawnAnew() {
        var sequence = JobIDSequence()
        var draws: [(UInt64, UInt64)] = [(0, UInt64.max - 1), (0, 5)]
        var texts: [String] = []
        for _ in 0..<4 {
            let id = sequence.next(milliseconds: 1) { draws.removeFirst() }
            texts.append(id.description)
        }
        let expected = [
            "00000000-0001-7000-bfff-fffffffffffe", "00000000-0001-7000-bfff-ffffffffffff",
            "00000000-0001-7000-8000-000000000005", "00000000-0001-7000-8000-000000000006",
        ]
        #expect(texts == expected)
        #expect(draws.isEmpty)
    }

    @Test func aClockThatGoesBackDrawsAnew() {
        var sequence = JobIDSequence()
        var draws: UInt64 = 0
        var texts: [String] = []
        for milliseconds: Int64 in [10, 10, 9, 10] {
            let id = sequence.next(milliseconds: milliseconds) {
                draws += 1
                return (0, draws * 0x100)
            }
            texts.append(id.description)
        }
        let expected = [
            "00000000-000a-7000-8000-000000000100", "00000000-000a-7000-8000-000000000101",
            "00000000-0009-7000-8000-000000000200", "00000000-000a-7000-8000-000000000300",
        ]
        #expect(texts == expected)
    }

    @Test func madeFromAMomentItKeepsTheMilliseconds() {
        let id = JobID.version7(at: Timestamp(microseconds: 0x017F_22E2_79B0 * 1000 + 999))
        #expect(id.description.hasPrefix("017f22e2-79b0-7"))
        #expect(JobID.version7(at: .now) != JobID.version7(at: .now))
    }

    @Test func readsEitherCaseAndWritesLowerCase() {
        let text = "0197a0de-0000-4000-8000-00000000abcd"
        #expect(JobID(text)?.description == text)
        #expect(JobID(text.uppercased())?.description == text)
        #expect(JobID(text[...])?.description == text)
        #expect(JobID("00000000-0000-0000-0000-000000000000") != nil)
    }

    @Test(arguments: [
        "", "0", "0197a0de-0000-4000-8000-00000000abc", "0197a0de-0000-4000-8000-00000000abcde",
        "0197a0de00004000800000000000abcd", "{0197a0de-0000-4000-8000-00000000ab}",
        "0197a0de-0000-4000-8000-00000000abcg", "0197a0de-00004-000-8000-00000000abcd",
        "0197a0de0-000-4000-8000-00000000abcd", " 197a0de-0000-4000-8000-00000000abcd",
        "0197a0de-0000-4000-8000-00000000abc ", "0197a0de_0000_4000_8000_00000000abcd",
        "ééééééééé-0000-4000-8000-0000000", "------------------------------------",
    ])
    func isNoID(_ text: String) {
        #expect(JobID(text) == nil)
    }

    @Test func timestampsAndDurations() {
        let moment = Timestamp(microseconds: 1_000_000)
        #expect(moment.advanced(by: .milliseconds(1500)) == Timestamp(microseconds: 2_500_000))
        #expect(moment < moment.advanced(by: .microseconds(1)))
        #expect(Duration.nanoseconds(1_999).microseconds == 1)
        #expect(Duration.nanoseconds(-1_999).microseconds == -1)
        #expect(Duration.microseconds(1_999).milliseconds == 1)
        #expect(Duration.seconds(3).milliseconds == 3000)
        #expect(Duration.milliseconds(2500).seconds == 2.5)
    }
}
