import JobModel
import TestRandom
import Testing

@testable import JobWatch

@Suite struct SmallMapTests {
    /// Whatever is put in, changed and taken out: it is the same as in a dictionary.
    @Test(arguments: 0..<20)
    func isLikeADictionary(_ seed: Int) {
        var random = SeededRandom(seed: UInt64(seed))
        let jobs = (0..<[1, 2, 3, 10][seed % 4]).map(WatchBufferTests.id)
        var map = SmallMap<JobID, Int>.empty
        var model: [JobID: Int] = [:]
        for step in 0..<500 {
            let job = jobs[Int.random(in: 0..<jobs.count, using: &random)]
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                map[job] = step
                model[job] = step
            case 5..<9:
                map[job] = nil
                model[job] = nil
            default:
                let taken = map.popFirst()
                let key = model.first { $0.value == taken }?.key
                #expect((taken == nil) == model.isEmpty)
                #expect((taken == nil) == (key == nil))
                if let key { model[key] = nil }
            }
            #expect(map.count == model.count)
            #expect(map.isEmpty == model.isEmpty)
            for job in jobs { #expect(map[job] == model[job]) }
            #expect(Set(map.keys { $0 % 2 == 0 }) == Set(model.filter { $0.value % 2 == 0 }.keys))
        }
    }

    @Test func keepsNoTableOfWhatIsGone() {
        var map = SmallMap<JobID, Int>.empty
        for number in 0..<10 { map[WatchBufferTests.id(number)] = number }
        for number in 0..<10 { map[WatchBufferTests.id(number)] = nil }
        guard case .empty = map else {
            Issue.record("it keeps a table")
            return
        }
    }
}
