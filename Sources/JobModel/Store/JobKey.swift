/// The store's identity of a job, with its lane.
package struct JobKey: Sendable, Hashable {
    package var number: Int64
    package var lane: Int64
    package var id: JobID

    package init(number: Int64, lane: Int64, id: JobID) {
        self.number = number
        self.lane = lane
        self.id = id
    }
}
