import ArgumentParser
import JobModel
import SignalboxClient
import SignalboxProto
import Logging
import NIOCore
import GRPC
import Settings
import Support

/// A connection to the server, for calls with decoded messages.
struct Service: Sendable {
    /// The API promises that no response is larger.
    private static let messageBytesMax = 4 << 20

    let client: Client
    let timeout: Duration
    /// The metadata of each call.
    let metadata: Metadata

    static func connect(_ target: ClientSettings) async throws -> Service {
        var configuration = ClientConfiguration()
        configuration.connectTimeout = target.timeout
        configuration.messageBytesMax = messageBytesMax
        if target.tls {
            var tls = ClientConfiguration.TLS()
            tls.rootsPath = target.tlsCA
            tls.certificateChainPath = target.tlsCertificate
            tls.privateKeyPath = target.tlsKey
            configuration.tls = tls
        }
        let metadata = try await metadata(target)
        let client = try await Client.connect(
            host: target.server.host, port: target.server.port, configuration: configuration,
            logger: Logger(label: "signalbox") { _ in SwiftLogNoOpLogHandler() })
        return Service(client: client, timeout: target.timeout, metadata: metadata)
    }

    /// The largest size of a file with a token.
    private static let tokenFileBytesMax = 16 << 10

    private static func metadata(_ target: ClientSettings) async throws -> Metadata {
        var text = target.token
        if let path = target.tokenFile {
            text = String(decoding: try await Files.read(path, bytesMax: tokenFileBytesMax), as: UTF8.self)
        }
        guard let text else { return Metadata() }
        // The line end that an editor adds is not part of the token.
        guard let token = text.split(whereSeparator: \.isWhitespace).first else {
            let origin = target.tokenFile.map { "'\($0.printable)'" } ?? "SIGNALBOX_TOKEN"
            throw FileError(description: "there is no token in \(origin)")
        }
        return ["authorization": "Bearer \(token)"]
    }

    func close() async {
        await client.close()
    }

    func call<Response: ResponseMessage>(
        _ method: String, _ request: some RequestMessage, _: Response.Type = Response.self
    ) async throws -> Answer<Response> {
        let bytes = try await client.unary(method, request.encode(), metadata: metadata, timeout: timeout)
        return Answer(message: try .decodeAnswer(bytes), bytes: bytes)
    }

    /// Makes a call for each page of a list. `show` gets each page and returns whether another one is wanted.
    ///
    /// - Parameters:
    ///   - request: from the token of the page, which is empty for the first.
    ///   - next: the token of the next page.
    func pages<Response: ResponseMessage>(
        _ method: String, _: Response.Type = Response.self,
        next: KeyPath<Response, ExactText>, request: (_ token: ExactText) -> some RequestMessage,
        show: (Answer<Response>) throws -> Bool
    ) async throws {
        var token: ExactText = ""
        repeat {
            let answer = try await call(method, request(token), Response.self)
            let following = answer.message[keyPath: next]
            guard following.isEmpty || following != token else {
                throw Status(.internalError, "the server returned the token of the same page again")
            }
            token = following
            guard try show(answer) else { return }
        } while !token.isEmpty
    }

    func getJob(_ id: JobID, includePayload: Bool = false) async throws -> Answer<GetJobResponse> {
        let request = GetJobRequest(jobID: "\(id)", includePayload: includePayload)
        return try await call(JobServiceMethod.getJob, request, GetJobResponse.self)
    }
}

/// Runs a command's calls on one connection. A `Status` that it throws is written to standard error and becomes the exit
/// code; a file that cannot be used is a usage error.
func withService(_ target: ClientSettings, _ body: (Service) async throws -> Void) async throws {
    try await explaining {
        let service = try await Service.connect(target)
        do {
            try await body(service)
        } catch {
            await service.close()
            throw error
        }
        await service.close()
    }
}

func explaining(_ body: () async throws -> Void) async throws {
    do {
        try await body()
    } catch let status as Status {
        try complain(status.explanation)
        throw status.exitCode
    } catch let error as FileError {
        throw ValidationError("\(error).")
    } catch let error as TLSFileError {
        throw ValidationError("\(error).")
    }
}

/// Makes one call for each job. After a refusal it continues with the next job, and the first refusal becomes the
/// exit code.
func forEachJob(
    _ ids: [JobID], _ target: ClientSettings, _ body: @escaping (Service, JobID) async throws -> Void
) async throws {
    try await withService(target) { service in
        var firstFailure: ExitCode?
        for id in ids {
            do {
                try await body(service, id)
            } catch let status as Status where status.exitCode != .unavailable {
                var lines = status.explanation
                lines[0] = "\(id): \(lines[0])"
                try complain(lines)
                firstFailure = firstFailure ?? status.exitCode
            }
        }
        if let firstFailure { throw firstFailure }
    }
}
