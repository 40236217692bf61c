package import Support

/// The permissions that a caller may have.
package enum Scope: String, Sendable, Hashable, CaseIterable {
    /// Allows Enqueue, EnqueueBatch and Retry.
    case enqueue = "jobs.enqueue"
    /// Allows GetJob, ListJobs, ListAttempts, ListLogLines and Watch.
    case read = "jobs.read"
    case cancel = "jobs.cancel"
    /// Allows the AdminService: queues, limits, nodes.
    case admin

    package static let all = Set(allCases)
}

/// The users for whom a caller may act. Jobs of other users do not exist for it.
package enum UserScope: Sendable, Hashable {
    case all
    /// User ids are compared by their bytes: another spelling of é is another user.
    case only(Set<ExactText>)

    package func contains(_ userID: ExactText) -> Bool {
        switch self {
        case .all: true
        case .only(let users): users.contains(userID)
        }
    }
}

/// The caller of an operation: which jobs it may see and change, and what the audit records about it.
package struct Caller: Sendable, Hashable {
    /// The means by which the caller was identified. Callers with the same name but other sources may be different callers.
    package enum Source: String, Sendable, Hashable {
        /// The service asks for no credentials.
        case anonymous = "none"
        /// A token of the token file.
        case token
        case jwt
        case certificate
        /// The server itself, as its settings say. There was no call.
        case settings
    }

    /// The name in the credential. Empty if the service asks for no credentials.
    package var name: String
    package var source: Source
    /// The caller's address as host:port. Empty for calls from within the process.
    package var address: String
    package var users: UserScope
    package let scopes: Set<Scope>
    /// Whether results are included in what other calls return.
    package let mayRead: Bool
    /// Whether responses include names of nodes, which may reveal machines and processes.
    package let seesNodes: Bool

    package init(
        name: String, source: Source, address: String, users: UserScope, scopes: Set<Scope> = Scope.all
    ) {
        self.name = name
        self.source = source
        self.address = address
        self.users = users
        self.scopes = scopes
        mayRead = scopes.contains(.read)
        seesNodes = scopes.contains(.admin)
    }

    /// The caller for changes that the server makes because of its settings.
    package static let settings = Caller(name: "settings", source: .settings, address: "", users: .all)
}
