import JobModel
import JobStore
import JobWatch

/// The changes of the jobs of a user or a queue since a watch of them was cut, from the change log.
struct MissedChanges: Sendable {
    /// A job with changes, and the last event before them.
    struct Job: Sendable {
        let number: Int64
        let after: Int64
    }

    /// A resume that would read more than this begins with snapshots instead, which cost less then.
    private static let jobsMax = 10_000
    private static let changesMax = 20_000
    private static let readTimeMax = Duration.seconds(10)
    private static let sequencesReadAtOnce = 1000

    /// In the order of their numbers.
    let jobs: [Job]
    /// Jobs that have reported progress.
    let reported: [Int64]
    /// All changes before it are among these.
    let place: ChangePlace

    /// Reads the changes since a place, for a watch that has subscribed already. Nil: not all of them are kept any more, or
    /// there are too many.
    ///
    /// The live jobs are tracked first, as by a snapshot, but are not sent. So a job that has no change among those that are
    /// read has its position, and its next event follows the last one that the client has.
    static func read(
        _ watch: Watch, _ store: JobStore, since place: ChangePlace, users: UserScope, queue: String?
    ) async throws(ServiceError) -> MissedChanges? {
        try await ServiceError.mapping { () async throws(StoreError) in
            let end = ContinuousClock.now + readTimeMax
            guard try await store.cursor(at: place) != nil else { return nil }
            try await track(watch, store, users, queue)
            // Checked again, because tracking may have taken long.
            guard let cursor = try await store.cursor(at: place) else { return nil }
            return try await read(watch, store, from: cursor, until: end)
        }
    }

    private static func track(
        _ watch: Watch, _ store: JobStore, _ users: UserScope, _ queue: String?
    ) async throws(StoreError) {
        var next: Int64? = 0
        var tracked = 0
        // The watch keeps the positions of so many jobs.
        while let after = next, tracked < WatchBuffer.positionsMax {
            let page = try await store.snapshot(of: users, queue: queue, after: after)
            next = page.next
            tracked += page.numbers.count
            for start in stride(from: 0, to: page.numbers.count, by: sequencesReadAtOnce) {
                let numbers = page.numbers[start..<min(start + sequencesReadAtOnce, page.numbers.count)]
                for job in try await store.sequences(of: Array(numbers)).values {
                    watch.track(job.id, delivered: job.sequence, isFinal: job.isFinal)
                }
            }
        }
    }

    private static func read(
        _ watch: Watch, _ store: JobStore, from start: ChangeCursor, until end: ContinuousClock.Instant
    ) async throws(StoreError) -> MissedChanges? {
        var cursor = start
        var first: [Int64: Int64] = [:]
        var reported: Set<Int64> = []
        var lanes: [Int64: Bool] = [:]
        var count = 0
        while true {
            let batch = try await store.changes(since: cursor, .allNodes, isLong: true)
            let unknown = Set(batch.changes.lazy.map(\.lane)).subtracting(lanes.keys)
            if !unknown.isEmpty {
                let names = try await store.lanes(Array(unknown))
                for lane in unknown { lanes[lane] = names[lane].map { watch.includes($0) } ?? false }
            }
            for change in batch.changes where lanes[change.lane] == true {
                if change.sequence > 0 {
                    first[change.number] = min(first[change.number] ?? change.sequence, change.sequence)
                } else {
                    reported.insert(change.number)
                }
            }
            count += batch.changes.count
            guard first.count <= jobsMax, reported.count <= jobsMax, count <= changesMax,
                ContinuousClock.now < end
            else { return nil }
            cursor = batch.cursor
            guard !batch.hasMore, let place = cursor.place else { continue }
            let jobs = first.map { Job(number: $0.key, after: $0.value - 1) }
            return MissedChanges(
                jobs: jobs.sorted { $0.number < $1.number }, reported: reported.sorted(), place: place)
        }
    }
}
