package import Support

/// What a caller may be allowed to do.
package enum Scope: String, Sendable, Hashable, CaseIterable {
    /// Enqueue, EnqueueBatch and Retry.
    case enqueue = "jobs.enqueue"
    /// GetJob, ListJobs and Watch.
    case read = "jobs.read"
    case cancel = "jobs.cancel"
    /// The AdminService: queues, limits, nodes.
    case admin
}

/// The users for whom a caller may act, and whose jobs exist for it.
package enum UserScope: Sendable, Hashable {
    case all
    /// Told apart by their bytes: another spelling of é is another user.
    case only(Set<ExactText>)

    package func contains(_ userID: ExactText) -> Bool {
        switch self {
        case .all: true
        case .only(let users): users.contains(userID)
        }
    }
}

/// Who asks: whose jobs it may see and change, and what the audit keeps of it.
package struct Caller: Sendable, Hashable {
    /// How it is known who it is. Callers of the same name that come by different ways may be different ones.
    package enum Source: String, Sendable, Hashable {
        /// Nobody was asked.
        case unasked = "none"
        /// A token of the token file.
        case token
        case jwt
        case certificate
        /// It is no call: the server does what its settings say.
        case settings
    }

    /// As its credential names it. Empty: the service asks for none.
    package var name: String
    package var source: Source
    /// Where it calls from, as host:port. Empty: from within the process.
    package var address: String
    package var users: UserScope
    /// Without it, results are left out of what other calls answer.
    package var mayRead: Bool
    /// Without it, no answer names the node that a job runs on: its name may tell of machines and processes.
    package var seesNodes: Bool

    package init(
        name: String, source: Source, address: String, users: UserScope, mayRead: Bool = true,
        seesNodes: Bool = true
    ) {
        self.name = name
        self.source = source
        self.address = address
        self.users = users
        self.mayRead = mayRead
        self.seesNodes = seesNodes
    }

    /// The server itself, which does what its settings say.
    package static let settings = Caller(name: "settings", source: .settings, address: "", users: .all)
}
