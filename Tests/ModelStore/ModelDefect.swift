/// Bugs of a store that the simulation has to find. Each is planted where the code of the model asks for it.
package enum ModelDefect: String, Sendable, Hashable, CaseIterable {
    /// A run that has lost its lease can still be ended.
    case finishIgnoresToken
    /// A run whose claim a restore has lost can end the run that has its number and token now.
    case fenceIgnoresStart
    /// A claim starts more jobs of a user than the limit of the lane.
    case claimIgnoresLimit
    /// A node whose lease has ended can renew it.
    case renewsEndedLease
    /// Now and then two runs get the same token.
    case claimRepeatsToken
    /// Runs are taken from nodes whose lease has not ended.
    case takesOrphansEarly
    /// A job that has failed is claimed again.
    case claimsFailedJob
    /// The third event of a job has number 4.
    case skipsEventNumber
    /// Now and then a job is acknowledged and not kept.
    case dropsAcknowledgedJob
    /// A call of Retry is acknowledged, and the job stays as it was.
    case retryForgetsJob
    /// A request to cancel a running job is acknowledged and not kept.
    case losesCancel
    /// Jobs that become due stay scheduled.
    case neverPromotes
    /// A checkpoint is acknowledged and not kept.
    case losesCheckpoint
    /// A run that is to be tried again uses up no attempt.
    case forgetsAttempt
    /// A run that has ended is kept, and ends once more.
    case endsTwice
}
