// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

package import FoundationEssentials
package import Support

/// A node as it announces itself.
package struct NodeDescription: Sendable {
    package var id: UUID
    package var name: String
    package var version: String
    package var concurrency: Int
    /// The kinds that it handles, each with its policy for runs whose node died.
    package var kinds: [String: Interruption]

    package init(id: UUID, name: String, version: String, concurrency: Int, kinds: [String: Interruption]) {
        self.id = id
        self.name = name
        self.version = version
        self.concurrency = concurrency
        self.kinds = kinds
    }
}

/// The result of renewing a node's lease.
package struct Renewal: Sendable {
    /// Whether the lease was renewed. Otherwise it had ended, and the node's runs are no longer its own.
    package var isAlive: Bool
    /// Each run of this node that was asked to stop, and the note of the call.
    package var cancels: [(run: RunFence, note: String)]
    /// The runs that the database has for this node and the node does not know: their claim was committed, but
    /// its result was lost.
    package var strays: [ClaimedRun]
    /// The runs that the node knows and the database does not have for it: they were given to others, or the database has
    /// lost their claim. A run whose end has just been written is here too.
    package var ghosts: [RunFence]
    /// Whether another node is alive.
    package var hasPeers: Bool

    package init(
        isAlive: Bool, cancels: [(run: RunFence, note: String)], strays: [ClaimedRun],
        ghosts: [RunFence] = [], hasPeers: Bool
    ) {
        self.isAlive = isAlive
        self.cancels = cancels
        self.strays = strays
        self.ghosts = ghosts
        self.hasPeers = hasPeers
    }
}

/// A run whose node died.
package struct OrphanedRun: Sendable {
    package var run: ClaimedRun
    package var node: String
    package var onInterruption: Interruption
    package var cancelNote: String?

    package init(run: ClaimedRun, node: String, onInterruption: Interruption, cancelNote: String?) {
        self.run = run
        self.node = node
        self.onInterruption = onInterruption
        self.cancelNote = cancelNote
    }
}

/// A kind whose policy for interrupted runs is not known to this version.
package struct UnknownPolicy: Sendable, Hashable {
    package var kind: String
    package var policy: ExactText

    package init(kind: String, policy: ExactText) {
        self.kind = kind
        self.policy = policy
    }
}
