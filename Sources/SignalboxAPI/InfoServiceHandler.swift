import JobModel
package import JobService
import SignalboxProto
package import GRPC
import Support

/// `signalbox.v1.InfoService`: encodes what `InfoOperations` answers.
package struct InfoServiceHandler: Sendable {
    /// The largest request, which has no fields yet.
    private static let requestBytesMax = 1 << 10

    private let info: InfoOperations

    package init(info: InfoOperations) {
        self.info = info
    }

    package var method: Method {
        .unary(InfoServiceMethod.getServerInfo, maxRequestBytes: Self.requestBytesMax) { bytes, context in
            _ = try GetServerInfoRequest.read(bytes)
            return GetServerInfoResponse(info.serverInfo(for: context.caller)).encode()
        }
    }
}

extension GetServerInfoResponse {
    fileprivate init(_ info: ServerInfo) {
        self.init(
            version: ExactText(info.version), apiPackages: info.apiPackages.map { ExactText($0) },
            features: info.features, limits: info.limits, at: info.at, node: ExactText(info.node),
            caller: info.caller)
    }
}
