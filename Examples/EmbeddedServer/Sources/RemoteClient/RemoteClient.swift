import Foundation
import SignalboxClient

/// A program that enqueues a job of the kind `test.sleep` on a server in another process, follows it and prints its result.
///
///     signalbox serve --test-kinds &
///     swift run RemoteClient 127.0.0.1 7600
///
/// `SIGNALBOX_TOKEN` is the token, if the server needs one. It is sent to this machine only, unless TLS is on.
@main
struct RemoteClient {
    struct Sleep: Encodable {
        var ms: Int
        var steps: Int
    }

    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3, let port = Int(arguments[2]) else {
            print("usage: RemoteClient HOST PORT")
            exit(2)
        }
        var configuration = SignalboxClient.Configuration(host: arguments[1], port: port)
        if let token = ProcessInfo.processInfo.environment["SIGNALBOX_TOKEN"] {
            configuration.token = .init(token)
        }
        let client = try SignalboxClient(configuration)
        do {
            let enqueued = try await client.enqueue(
                "test.sleep", userID: "ada", input: Sleep(ms: 1000, steps: 4))
            for try await update in client.watch(.job(enqueued.job.id)) {
                switch update {
                case .event(let event): print("\(event.sequence) \(event.state)")
                case .progress(_, _, let progress):
                    print("\(progress.stage) \(progress.done)/\(progress.total)")
                case .snapshot, .log, .removed, .isCurrent: break
                }
            }
            let job = try await client.finalJob(enqueued.job.id)
            print(String(decoding: job.result?.data ?? Data(), as: UTF8.self))
        } catch let error as SignalboxError {
            print("\(error.code): \(error.message)")
            exit(1)
        }
    }
}
