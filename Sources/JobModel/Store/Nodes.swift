// exact in this file: kinds are names that were checked to be ASCII, which Swift compares by its bytes.

package import FoundationEssentials
package import Support

/// How a node presents itself.
package struct NodeDescription: Sendable {
    package var id: UUID
    package var name: String
    package var version: String
    package var concurrency: Int
    /// Each kind it handles, and what becomes of a run of it whose node died.
    package var kinds: [String: Interruption]

    package init(id: UUID, name: String, version: String, concurrency: Int, kinds: [String: Interruption]) {
        self.id = id
        self.name = name
        self.version = version
        self.concurrency = concurrency
        self.kinds = kinds
    }
}

/// What a renewal tells the node.
package struct Renewal: Sendable {
    /// False: the lease had ended, the node's runs are no longer its own.
    package var isAlive: Bool
    /// Runs of this node that somebody has asked to stop: token and reason.
    package var cancels: [(token: Int64, reason: String)]
    /// Runs that the database has for this node and the node does not know of: their claim was committed,
    /// but its answer was lost.
    package var strays: [ClaimedRun]
    /// Another node is alive.
    package var hasPeers: Bool

    package init(
        isAlive: Bool, cancels: [(token: Int64, reason: String)], strays: [ClaimedRun], hasPeers: Bool
    ) {
        self.isAlive = isAlive
        self.cancels = cancels
        self.strays = strays
        self.hasPeers = hasPeers
    }
}

/// A run whose node died.
package struct OrphanedRun: Sendable {
    package var run: ClaimedRun
    package var node: String
    package var onInterruption: Interruption
    package var cancelReason: String?

    package init(run: ClaimedRun, node: String, onInterruption: Interruption, cancelReason: String?) {
        self.run = run
        self.node = node
        self.onInterruption = onInterruption
        self.cancelReason = cancelReason
    }
}

/// A kind whose policy for runs of dead nodes is one that only a newer version knows.
package struct UnknownPolicy: Sendable, Hashable {
    package var kind: String
    package var policy: ExactText

    package init(kind: String, policy: ExactText) {
        self.kind = kind
        self.policy = policy
    }
}
