/// The number of pending jobs, and the bytes of their payloads.
package struct PendingAmount: Sendable, Hashable {
    package var jobs: Int
    package var bytes: Int

    package init(jobs: Int, bytes: Int) {
        self.jobs = jobs
        self.bytes = bytes
    }

    package static let zero = PendingAmount(jobs: 0, bytes: 0)

    package static func += (left: inout PendingAmount, right: PendingAmount) {
        left.jobs += right.jobs
        left.bytes += right.bytes
    }

    package static func -= (left: inout PendingAmount, right: PendingAmount) {
        left.jobs -= right.jobs
        left.bytes -= right.bytes
    }
}
