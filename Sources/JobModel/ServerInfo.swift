package import Support

/// The description of a server, for one caller.
package struct ServerInfo: Sendable, Hashable {
    /// The version of the program.
    package var version: String
    /// The packages of the API that it serves.
    package var apiPackages: [String]
    /// In the order of their names.
    package var features: [ServerFeature]
    package var limits: ServerLimits
    /// The server's clock.
    package var at: Timestamp
    /// The name of the node that answers; empty for callers who may not see the names of nodes.
    package var node: String
    package var caller: CallerInfo

    package init(
        version: String, apiPackages: [String], features: [ServerFeature], limits: ServerLimits,
        at: Timestamp, node: String, caller: CallerInfo
    ) {
        self.version = version
        self.apiPackages = apiPackages
        self.features = features
        self.limits = limits
        self.at = at
        self.node = node
        self.caller = caller
    }
}

/// A part of the API that not every server of `signalbox.v1` has.
package struct ServerFeature: Sendable, Hashable {
    package enum Stability: String, Sendable, Hashable, CaseIterable {
        /// The feature may change or be removed in any version.
        case experimental
        case stable
        /// The feature works in all of `signalbox.v1`, but is no longer recommended.
        case deprecated
    }

    package var name: String
    /// Nil if the server does not say, or says something that this version does not know.
    package var stability: Stability?
    /// Whether the settings of the server allow the feature to be used.
    package var isEnabled: Bool

    package init(name: String, stability: Stability?, isEnabled: Bool) {
        self.name = name
        self.stability = stability
        self.isEnabled = isEnabled
    }
}

/// The limits that clients may need to know. Sizes are in bytes.
package struct ServerLimits: Sendable, Hashable {
    package var payloadBytesMax: Int64
    package var resultBytesMax: Int64
    package var batchJobsMax: Int
    package var batchBytesMax: Int64
    package var watchedJobsMax: Int
    package var pageSizeMax: Int
    package var checkpointBytesMax: Int64
    package var logLinesKept: Int
    package var labelsMax: Int
    package var heartbeatInterval: Duration?
    package var retention: Duration?
    /// The longest time that one call can wait for the end of a job; nil: there is no such call.
    package var waitMax: Duration?
    package var eventResultBytesMax: Int64

    /// The fields in the order of the .proto, as a message is read.
    package init(
        payloadBytesMax: Int64, resultBytesMax: Int64, batchJobsMax: Int, batchBytesMax: Int64,
        watchedJobsMax: Int, pageSizeMax: Int, checkpointBytesMax: Int64, logLinesKept: Int, labelsMax: Int,
        heartbeatInterval: Duration?, retention: Duration?, waitMax: Duration?, eventResultBytesMax: Int64
    ) {
        self.payloadBytesMax = payloadBytesMax
        self.resultBytesMax = resultBytesMax
        self.batchJobsMax = batchJobsMax
        self.batchBytesMax = batchBytesMax
        self.watchedJobsMax = watchedJobsMax
        self.pageSizeMax = pageSizeMax
        self.checkpointBytesMax = checkpointBytesMax
        self.logLinesKept = logLinesKept
        self.labelsMax = labelsMax
        self.heartbeatInterval = heartbeatInterval
        self.retention = retention
        self.waitMax = waitMax
        self.eventResultBytesMax = eventResultBytesMax
    }
}

/// A caller as it is described to itself.
package struct CallerInfo: Sendable, Hashable {
    /// The most users that are named. A caller may have 10,000, whose names do not fit into a small response.
    package static let usersMax = 100

    /// Empty if the server requires no credentials.
    package var name: String
    /// A `Caller.Source`, or one of a newer server.
    package var source: String
    /// Scopes by their names, in alphabetical order.
    package var scopes: [String]
    package var hasAllUsers: Bool
    /// The first `usersMax`, in the order of their bytes; empty with `hasAllUsers`.
    package var users: [ExactText]

    /// The fields in the order of the .proto, as a message is read.
    package init(name: String, source: String, scopes: [String], hasAllUsers: Bool, users: [ExactText]) {
        self.name = name
        self.source = source
        self.scopes = scopes
        self.hasAllUsers = hasAllUsers
        self.users = users
    }
}
