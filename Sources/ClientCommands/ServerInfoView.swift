import JobModel
import SignalboxProto
import Support

/// `GetServerInfoResponse` as `--json` prints it.
struct ServerInfoView: Encodable {
    let version: String
    let apiPackages: [String]
    let features: [Feature]
    let limits: Limits
    let at: String
    let node: String?
    let caller: Caller

    struct Feature: Encodable {
        let name: String
        let stability: String
        let enabled: Bool
    }

    struct Limits: Encodable {
        let maxPayloadBytes: Int64
        let maxResultBytes: Int64
        let maxBatchJobs: Int
        let maxBatchBytes: Int64
        let maxWatchedJobs: Int
        let maxPageSize: Int
        let maxCheckpointBytes: Int64
        let keptLogLines: Int
        let maxLabels: Int
        let heartbeatInterval: String?
        let retention: String?
        let maxWait: String?
        let maxEventResultBytes: Int64
    }

    struct Caller: Encodable {
        let name: String
        let source: String
        let scopes: [String]
        let allUsers: Bool
        let users: [String]
    }

    init(_ info: GetServerInfoResponse) {
        version = info.version.text
        apiPackages = info.apiPackages.map(\.text)
        features = info.features.map {
            Feature(name: $0.name, stability: $0.stability.word, enabled: $0.isEnabled)
        }
        limits = Limits(info.limits)
        at = info.at.text
        node = info.node.isEmpty ? nil : info.node.text
        caller = Caller(
            name: info.caller.name, source: info.caller.source, scopes: info.caller.scopes,
            allUsers: info.caller.hasAllUsers, users: info.caller.users.map(\.text))
    }
}

extension ServerInfoView.Limits {
    fileprivate init(_ limits: ServerLimits) {
        maxPayloadBytes = limits.payloadBytesMax
        maxResultBytes = limits.resultBytesMax
        maxBatchJobs = limits.batchJobsMax
        maxBatchBytes = limits.batchBytesMax
        maxWatchedJobs = limits.watchedJobsMax
        maxPageSize = limits.pageSizeMax
        maxCheckpointBytes = limits.checkpointBytesMax
        keptLogLines = limits.logLinesKept
        maxLabels = limits.labelsMax
        heartbeatInterval = limits.heartbeatInterval?.text
        retention = limits.retention?.text
        maxWait = limits.waitMax?.text
        maxEventResultBytes = limits.eventResultBytesMax
    }
}
