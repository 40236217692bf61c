public import Foundation
import JobModel
import SignalboxJobs
import SignalboxProto
import Support

/// The description of a server, and of the client as the server knows it.
public struct ServerInfo: Sendable, Hashable {
    /// The version of the program.
    public var version: String
    /// The packages of the API that the server has, such as "signalbox.v1".
    public var apiPackages: [String]
    /// The features that the server has and others may not have. A feature that is not listed does not exist there.
    public var features: [Feature]
    /// The limits of requests and responses.
    public var limits: Limits
    /// The time of the server's clock.
    public var time: Date
    /// The name of the node that has answered. Nil for callers without the scope admin.
    public var node: String?
    /// The client as the server knows it.
    public var caller: Caller

    /// A part of the API that not every server has.
    public struct Feature: Sendable, Hashable {
        /// The name, which never changes.
        public var name: String
        /// The stability of the feature. Nil for a value that this version does not know.
        public var stability: Stability?
        /// Whether the settings of the server allow the feature to be used.
        public var isEnabled: Bool
    }

    /// The degree to which clients can rely on a feature.
    public enum Stability: Sendable, Hashable {
        /// The feature may change or be removed in any version.
        case experimental
        /// The feature works in all of this version of the API.
        case stable
        /// The feature works in all of this version of the API, but is no longer recommended.
        case deprecated
    }

    /// The limits of a server. A limit is 0 or nil if the server has no such limit, or does not say it.
    public struct Limits: Sendable, Hashable {
        /// The largest payload of a job, in bytes.
        public var maxPayloadBytes: Int
        /// The largest result of a job, in bytes.
        public var maxResultBytes: Int
        /// The largest result in an event of a watch, in bytes. A larger one is left out of the event.
        public var maxEventResultBytes: Int
        /// The most jobs that can be enqueued together.
        public var maxBatchJobs: Int
        /// The largest request with which jobs are enqueued together, in bytes.
        public var maxBatchBytes: Int
        /// The most jobs that one watch can name.
        public var maxWatchedJobs: Int
        /// The most jobs in one page of a list.
        public var maxPageSize: Int
        /// The largest checkpoint of a run, in bytes.
        public var maxCheckpointBytes: Int
        /// The number of a job's log lines that are kept. Older ones are removed.
        public var keptLogLines: Int
        /// The most labels of a job.
        public var maxLabels: Int
        /// The time between two heartbeats of a watch.
        public var heartbeatInterval: Duration?
        /// The time for which final jobs are kept.
        public var retention: Duration?
        /// The longest time that one call can wait for the end of a job.
        public var maxWait: Duration?
    }

    /// A client as a server knows it.
    public struct Caller: Sendable, Hashable {
        /// The name in the credentials. Empty if the server requires no credentials.
        public var name: String
        /// The kind of credentials: "token", "jwt", "certificate", or "none".
        public var source: String
        /// The names of the client's scopes, such as "jobs.read".
        public var scopes: [String]
        /// Whether the client may act for all users.
        public var hasAllUsers: Bool
        /// The first 100 users for whom the client may act. Empty if `hasAllUsers` is true.
        public var users: [String]
    }
}

extension ServerInfo {
    init(_ response: GetServerInfoResponse) {
        version = response.version.text
        apiPackages = response.apiPackages.map(\.text)
        features = response.features.map { Feature($0) }
        limits = Limits(response.limits)
        time = Date(response.at)
        node = response.node.isEmpty ? nil : response.node.text
        caller = Caller(response.caller)
    }
}

extension ServerInfo.Feature {
    fileprivate init(_ feature: ServerFeature) {
        name = feature.name
        stability =
            switch feature.stability {
            case nil: nil
            case .experimental: .experimental
            case .stable: .stable
            case .deprecated: .deprecated
            }
        isEnabled = feature.isEnabled
    }
}

extension ServerInfo.Limits {
    fileprivate init(_ limits: ServerLimits) {
        maxPayloadBytes = Int(limits.payloadBytesMax)
        maxResultBytes = Int(limits.resultBytesMax)
        maxEventResultBytes = Int(limits.eventResultBytesMax)
        maxBatchJobs = limits.batchJobsMax
        maxBatchBytes = Int(limits.batchBytesMax)
        maxWatchedJobs = limits.watchedJobsMax
        maxPageSize = limits.pageSizeMax
        maxCheckpointBytes = Int(limits.checkpointBytesMax)
        keptLogLines = limits.logLinesKept
        maxLabels = limits.labelsMax
        heartbeatInterval = limits.heartbeatInterval
        retention = limits.retention
        maxWait = limits.waitMax
    }
}

extension ServerInfo.Caller {
    fileprivate init(_ caller: CallerInfo) {
        name = caller.name
        source = caller.source
        scopes = caller.scopes
        hasAllUsers = caller.hasAllUsers
        users = caller.users.map(\.text)
    }
}
