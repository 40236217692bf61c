package import JobModel
import Support

/// Describes this server to its callers.
package struct InfoOperations: Sendable {
    private static let apiPackages = ["signalbox.v1"]
    /// The features that this server has beyond the first version of `signalbox.v1`, in the order of their names. There
    /// are none yet. The change that adds a feature also adds it here, under a name that it keeps.
    private static let features: [ServerFeature] = []

    private let version: String
    private let node: String
    private let limits: ServerLimits

    /// - Parameters:
    ///   - version: the version of the program.
    ///   - node: the name of the node.
    ///   - heartbeatInterval: the time between two heartbeats of a watch.
    ///   - retention: how long final jobs are kept.
    package init(version: String, node: String, heartbeatInterval: Duration, retention: Duration) {
        self.version = version
        self.node = node
        limits = ServerLimits(
            payloadBytesMax: Int64(JobLimits.payloadBytesMax),
            resultBytesMax: Int64(JobLimits.resultBytesMax),
            batchJobsMax: JobLimits.batchJobsMax, batchBytesMax: Int64(JobLimits.batchBytesMax),
            watchedJobsMax: JobLimits.watchedJobsMax, pageSizeMax: JobLimits.pageSizeMax,
            checkpointBytesMax: Int64(JobLimits.checkpointBytesMax), logLinesKept: JobLimits.logLinesKept,
            labelsMax: JobLimits.labelsMax, heartbeatInterval: heartbeatInterval, retention: retention,
            waitMax: nil, eventResultBytesMax: Int64(JobLimits.eventResultBytesMax))
    }

    package func serverInfo(for caller: Caller) -> ServerInfo {
        ServerInfo(
            version: version, apiPackages: Self.apiPackages, features: Self.features, limits: limits,
            at: .now, node: caller.seesNodes ? node : "", caller: CallerInfo(caller))
    }
}

extension CallerInfo {
    /// The first users in order. The set may be a hundred times as large, so it is not sorted as a whole.
    private static func first(_ count: Int, of users: Set<ExactText>) -> [ExactText] {
        var first: [ExactText] = []
        for user in users {
            if first.count == count, let last = first.last, last < user { continue }
            first.insert(user, at: first.firstIndex { user < $0 } ?? first.endIndex)
            if first.count > count { first.removeLast() }
        }
        return first
    }

    fileprivate init(_ caller: Caller) {
        let users: [ExactText] =
            switch caller.users {
            case .all: []
            case .only(let users): Self.first(Self.usersMax, of: users)
            }
        self.init(
            name: caller.name, source: caller.source.rawValue, scopes: caller.scopes.map(\.rawValue).sorted(),
            hasAllUsers: caller.users == .all, users: users)
    }
}
