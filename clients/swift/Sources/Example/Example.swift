// An example of a client: it enqueues a job and watches it to its end. README.md has the commands.
//
// It prints one JSON object a line, and what went wrong on standard error.

import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import GRPCProtobuf

typealias JobService = Signalbox_V1_JobService.Client<HTTP2ClientTransport.Posix>

let usage = """
    usage: example run KIND USER PAYLOAD
           example watch JOB_ID [AFTER_SEQUENCE]
           example cancel JOB_ID [NOTE]
           example invalid
           example leave COUNT KIND USER PAYLOAD
    """

@main
struct Example {
    static func main() async {
        do {
            let words = Array(CommandLine.arguments.dropFirst())
            try await withService { jobs in try await run(words, jobs) }
        } catch {
            let text = (error as? RPCError).map { "\(name(of: $0.code)): \($0.message)" } ?? "\(error)"
            FileHandle.standardError.write(Data("example: \(text)\n".utf8))
            exit(1)
        }
    }

    static func run(_ words: [String], _ jobs: JobService) async throws {
        switch (words.first, words.count) {
        case ("run", 4):
            let id = try await enqueue(kind: words[1], user: words[2], payload: words[3], jobs)
            try await watch(.of(id), jobs)
        case ("watch", 2...3):
            guard let sequence = Int64(words.count > 2 ? words[2] : "0") else { throw UsageError() }
            try await watch(.of(words[1], after: sequence), jobs)
        case ("cancel", 2...3):
            let job = try await cancel(words[1], note: words.count > 2 ? words[2] : "", jobs)
            try show(Line(state: name(of: job.state)))
        case ("invalid", 1):
            try await invalid(jobs)
        case ("leave", 5):
            guard let count = Int(words[1]) else { throw UsageError() }
            try await leave(count, kind: words[2], user: words[3], payload: words[4], jobs)
        default:
            throw UsageError()
        }
    }

    static func enqueue(kind: String, user: String, payload: String, _ jobs: JobService) async throws
        -> String
    {
        let id = UUID().uuidString.lowercased()
        var request = Signalbox_V1_EnqueueRequest()
        request.job.jobID = id
        request.job.kind = kind
        request.job.userID = user
        request.job.payload = Data(payload.utf8)
        let response = try await call { try await jobs.enqueue(request, options: $0) }
        try show(Line(jobID: id, created: response.created))
        return id
    }

    static func cancel(_ id: String, note: String, _ jobs: JobService) async throws -> Signalbox_V1_Job {
        var request = Signalbox_V1_CancelRequest()
        request.jobID = id
        request.note = note
        return try await call { try await jobs.cancel(request, options: $0) }.job
    }

    /// Enqueues an invalid job, and prints which fields the service finds fault with.
    static func invalid(_ jobs: JobService) async throws {
        var request = Signalbox_V1_EnqueueRequest()
        request.job.kind = ""
        request.job.userID = String(repeating: "u", count: 300)
        do {
            _ = try await call { try await jobs.enqueue(request, options: $0) }
        } catch let error as RPCError where error.code == .invalidArgument {
            let details = try error.unpackGoogleRPCStatus()?.details ?? []
            let violations = details.compactMap(\.badRequest).flatMap(\.violations)
            return try show(
                Line(
                    code: name(of: error.code),
                    violations: violations.map {
                        Violation(field: $0.field, description: $0.violationDescription)
                    }))
        }
        throw RPCError(code: .unknown, message: "the service accepted an invalid job")
    }

    /// Opens watches of one job on one connection, and leaves each once its snapshot has come.
    ///
    /// A connection of grpc-swift forgets all but the last 32 streams that it has reset. A message that is still on its way
    /// for another one ends the connection, so a client that leaves very many watches at once does so when they are quiet.
    static func leave(_ count: Int, kind: String, user: String, payload: String, _ jobs: JobService)
        async throws
    {
        let id = try await enqueue(kind: kind, user: user, payload: payload, jobs)
        try await withThrowingTaskGroup { group in
            for _ in 0..<count {
                group.addTask {
                    // To return from the closure cancels the call.
                    try await jobs.watch(.of(id)) { response in
                        for try await message in response.messages {
                            if case .snapshotsComplete = message.event { return }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        try show(Line(left: count))
        _ = try await cancel(id, note: "", jobs)
    }
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { usage }
}
