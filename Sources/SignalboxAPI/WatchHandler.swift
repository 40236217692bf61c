import JobModel
package import JobService
import SignalboxProto
import NIOCore
package import GRPC
import Support

/// `signalbox.v1.JobService/Watch`: decodes the request, and encodes what `WatchOperations` gives.
///
/// The response's headers come with the first message: what happens after a client has seen them comes as an event.
package struct WatchHandler: Sendable {
    /// The largest request. A thousand jobs take half of it.
    private static let requestBytesMax = 128 << 10

    private let watches: WatchOperations

    package init(watches: WatchOperations) {
        self.watches = watches
    }

    package var method: Method {
        Method(
            JobServiceMethod.watch, maxRequestBytes: Self.requestBytesMax,
            .serverStream { bytes, context, writer in
                .work { try await begin(bytes, by: context.caller, writer) }
            })
    }

    private func begin(
        _ bytes: ByteBuffer, by caller: Caller, _ writer: ResponseWriter
    ) async throws -> any ResponseSource {
        var violations: [FieldViolation] = []
        let request = try WatchRequest.decode(bytes, into: &violations)
        var beginning = try await watches.begin(WatchQuery(request), found: violations, by: caller)
        do {
            try await Self.send(&beginning, writer)
        } catch {
            beginning.close()
            throw error
        }
        return beginning.follow()
    }

    private static func send(_ beginning: inout WatchBeginning, _ writer: ResponseWriter) async throws {
        while true {
            while beginning.nextMayBeLarge {
                try await writer.write(withPermit: { try await beginning.next()?.message })
            }
            guard let item = try await beginning.next() else { return }
            try await writer.write(item.message)
        }
    }
}

extension WatchQuery {
    fileprivate init(_ request: WatchRequest) {
        self.init(
            jobs: request.jobs.map {
                .init(id: $0.jobID, afterSequence: $0.afterSequence, afterLogLine: $0.afterLogLine)
            },
            filter: request.filter.map { Filter($0) }, includesLog: request.includeLog,
            resumeToken: request.resumeToken)
    }
}

extension WatchQuery.Filter {
    fileprivate init(_ filter: JobFilterMessage) {
        let others = [
            ("kinds", !filter.kinds.isEmpty), ("states", !filter.states.isEmpty),
            ("labels", !filter.labels.isEmpty), ("created_from", filter.createdFrom != nil),
            ("created_to", filter.createdTo != nil),
        ]
        self.init(
            userID: filter.userID, queue: filter.queue,
            otherConditions: others.filter(\.1).map(\.0))
    }
}
