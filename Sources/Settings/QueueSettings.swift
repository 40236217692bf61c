/// The settings of one queue. They can be given in the file only.
package struct QueueSettings: Sendable, Hashable {
    /// The number of jobs of one user that may run at once in this queue; nil: the server's default.
    package var userLimit: Int?

    package init(userLimit: Int?) {
        self.userLimit = userLimit
    }
}
