/// What has to hold in every simulation. The raw value is how a violation is shown.
package enum Rule: String, Sendable, Hashable, CaseIterable {
    /// A job whose enqueue was acknowledged is in the database.
    case acknowledgedJobIsKept
    /// Every run has a token that is greater than all before it, so no two runs hold the same lease.
    case tokenGrows
    /// No claim or start takes more of a user than the limit of the lane.
    case limitIsKept
    /// Only a call of Retry changes a final job.
    case finalIsFinal
    /// Every event leaves a state that its type may leave, and the job is in the state that it leads to.
    case eventsFollowTheTable
    /// The events of a job are numbered from 1 without gaps.
    case sequenceHasNoGap
    /// Each start has the next number, and uses up one attempt of the budget unless its run was released. A Retry
    /// begins the budget again, and no job exceeds it.
    case attemptsAreCounted
    /// A write under a token that the job does not have changes nothing.
    case staleWriteIsRefused
    /// A lease that has ended is not renewed.
    case endedLeaseStaysEnded
    /// Runs are taken back from nodes whose lease has ended, and from no others.
    case orphansHaveNoLease
    /// Two attempts of a job do not run at the same time, as long as their nodes are not frozen and their handlers end
    /// when they are cancelled.
    case attemptsDoNotOverlap
    /// A job that was asked to stop waits for no other attempt.
    case cancelIsKept
    /// A call of Retry that was acknowledged puts the job back.
    case retryIsKept
    /// An attempt receives the last checkpoint that was acknowledged.
    case checkpointIsKept
    /// A job succeeds only if a handler of that attempt returned.
    case successWasEarned
    /// The handler of a run whose claim the database has lost is stopped within the time of a lease.
    case lostRunsAreStopped
    /// Every job is final within a bounded time after the last fault.
    case everythingEnds
    /// Everything that the engine awaits is resumed on the simulation's thread, and ends when it is over.
    case engineStaysInTheSimulation
}

package struct Violation: Sendable, Equatable, CustomStringConvertible {
    package let rule: Rule
    package let what: String

    package var description: String { "\(rule.rawValue): \(what)" }
}
