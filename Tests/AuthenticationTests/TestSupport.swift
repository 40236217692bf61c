import Authentication
import Crypto
import CryptoExtras
import Foundation
import JobModel
import Logging
import Support
import Synchronization

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Time that passes when the test says so.
final class TestClock: Sendable {
    /// 2030-01-01T00:00:00Z.
    static let start = 1_893_456_000

    private let time = Mutex(Timestamp(microseconds: Int64(start) * 1_000_000))

    var now: Timestamp { time.withLock { $0 } }
    /// Since 1970.
    var seconds: Int { Int(now.microseconds / 1_000_000) }

    func advance(by duration: Duration) {
        time.withLock { $0 = $0.advanced(by: duration) }
    }
}

/// A folder of its own, removed with this object.
final class TestFolder: Sendable {
    private let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appending(path: "authentication-\(UUID())")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appending(path: name).path }

    /// As a new file that takes the place of the one before.
    @discardableResult
    func write(_ text: String, to name: String) throws -> String {
        let path = path(name)
        try Data(text.utf8).write(to: URL(filePath: path), options: .atomic)
        return path
    }
}

/// What was logged.
final class TestLog: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }
    var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }

    fileprivate func add(_ line: String) { lines.withLock { $0.append(line) } }

    private struct Handler: LogHandler {
        let log: TestLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            log.add("\(event.level) \(event.message) \(event.metadata ?? [:])")
        }
    }
}

/// A key of an issuer, made for the tests.
struct SigningKey: Sendable {
    enum Secret: Sendable {
        case rsa(_RSA.Signing.PrivateKey)
        case p256(P256.Signing.PrivateKey)
        case ed25519(Curve25519.Signing.PrivateKey)
    }

    let id: String?
    let secret: Secret
    let algorithm: String

    /// One for all tests: making it takes long.
    private static let rsaKeys = Result { try (_RSA.Signing.PrivateKey(keySize: .bits2048)) }

    static func rsa(_ id: String? = "rsa") throws -> SigningKey {
        SigningKey(id: id, secret: .rsa(try rsaKeys.get()), algorithm: "RS256")
    }

    static func p256(_ id: String? = "p256") -> SigningKey {
        SigningKey(id: id, secret: .p256(P256.Signing.PrivateKey()), algorithm: "ES256")
    }

    static func ed25519(_ id: String? = "ed") -> SigningKey {
        SigningKey(id: id, secret: .ed25519(Curve25519.Signing.PrivateKey()), algorithm: "EdDSA")
    }

    func sign(_ bytes: [UInt8]) throws -> [UInt8] {
        switch secret {
        case .rsa(let key):
            Array(
                try key.signature(for: SHA256.hash(data: bytes), padding: .insecurePKCS1v1_5)
                    .rawRepresentation)
        case .p256(let key): Array(try key.signature(for: bytes).rawRepresentation)
        case .ed25519(let key): Array(try key.signature(for: bytes))
        }
    }

    /// The public half as a JSON Web Key.
    func jwk(_ more: [String: Any] = [:]) throws -> [String: Any] {
        var jwk: [String: Any] = [:]
        jwk["kid"] = id
        switch secret {
        case .rsa(let key):
            let numbers = try key.publicKey.getKeyPrimitives()
            jwk["kty"] = "RSA"
            jwk["n"] = base64URL(numbers.modulus)
            jwk["e"] = base64URL(numbers.publicExponent)
        case .p256(let key):
            let point = key.publicKey.rawRepresentation
            jwk["kty"] = "EC"
            jwk["crv"] = "P-256"
            jwk["x"] = base64URL(point.prefix(32))
            jwk["y"] = base64URL(point.suffix(32))
        case .ed25519(let key):
            jwk["kty"] = "OKP"
            jwk["crv"] = "Ed25519"
            jwk["x"] = base64URL(key.publicKey.rawRepresentation)
        }
        return jwk.merging(more) { _, new in new }
    }

    /// A JWT of this key. What `header` and `claims` have counts; nil takes away.
    func token(_ claims: [String: Any?], header: [String: Any?] = [:]) throws -> String {
        try JWT.make(
            header: ["alg": algorithm, "kid": id, "typ": "JWT"].merging(header) { $1 }, claims: claims
        ) {
            try sign($0)
        }
    }
}

enum JWT {
    static let issuer = "https://issuer.example"
    static let audience = "signalbox"

    static func make(
        header: [String: Any?], claims: [String: Any?], sign: ([UInt8]) throws -> [UInt8]
    ) throws -> String {
        let signed = try base64URL(json(header)) + "." + base64URL(json(claims))
        return signed + "." + base64URL(Data(try sign(Array(signed.utf8))))
    }

    static func json(_ fields: [String: Any?]) throws -> Data {
        try JSONSerialization.data(withJSONObject: fields.compactMapValues { $0 }, options: [.sortedKeys])
    }

    /// Good ones for an hour, of which some are to be others.
    static func claims(_ other: [String: Any?] = [:], at seconds: Int = TestClock.start) -> [String: Any?] {
        let claims: [String: Any?] = [
            "iss": issuer, "aud": audience, "sub": "ada", "exp": seconds + 3600,
            "scope": "jobs.read jobs.enqueue",
        ]
        return claims.merging(other) { $1 }
    }
}

func keySet(_ keys: [SigningKey]) throws -> String {
    try keySet(keys.map { try $0.jwk() })
}

func keySet(_ keys: [[String: Any]]) throws -> String {
    String(decoding: try JSONSerialization.data(withJSONObject: ["keys": keys]), as: UTF8.self)
}

func base64URL(_ bytes: some Sequence<UInt8>) -> String {
    Data(bytes).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
        "=", with: "")
}

/// The keys at an address, as the test says.
final class ScriptedFetch: Sendable {
    struct Unreachable: Error {}

    private struct State {
        var answer: Result<String, any Error>
        var count = 0
    }

    private let state: Mutex<State>

    init(_ answer: Result<String, any Error>) {
        state = Mutex(State(answer: answer))
    }

    var count: Int { state.withLock { $0.count } }

    func answer(_ answer: Result<String, any Error>) {
        state.withLock { $0.answer = answer }
    }

    var fetch: KeySetFetch {
        { _ in
            try self.state.withLock { state in
                state.count += 1
                return Array(try state.answer.get().utf8)
            }
        }
    }
}

let noFetch: KeySetFetch = { _ in throw ScriptedFetch.Unreachable() }

extension Authenticator {
    /// Nil where it waits or refuses.
    func known(_ authorization: String?, certificate: PeerCertificate? = nil) -> Credential? {
        if case .principal(let credential) = attempt(authorization: authorization, certificate: certificate) {
            return credential
        }
        return nil
    }

    /// Why it is refused; nil where it is not.
    func refusal(
        _ authorization: String?, certificate: PeerCertificate? = nil
    ) async -> AuthenticationError.Code? {
        do {
            _ = try await authenticate(authorization: authorization, certificate: certificate, source: "")
            return nil
        } catch {
            return error.code
        }
    }

    func principal(
        _ authorization: String?, certificate: PeerCertificate? = nil
    ) async throws -> Principal {
        try await authenticate(authorization: authorization, certificate: certificate, source: "").principal
    }
}
