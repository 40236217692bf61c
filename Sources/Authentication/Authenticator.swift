package import JobModel
package import Logging
internal import Synchronization
internal import Threads

/// Identifies the caller of a call from the call's credentials alone.
///
/// If a call has a bearer token and its connection a certificate, only the token counts, whether it is valid
/// or not: it was sent with this very call, while the certificate belongs to the connection, which may be a
/// proxy's.
///
/// It has no timers of its own. The owner calls `reload` about twice a second, and `refreshKeys` every
/// second.
package final class Authenticator: Sendable {
    private typealias Check = Task<Result<Credential, AuthenticationError>, Never>

    /// The result as far as it is known without waiting.
    package enum Attempt: Sendable {
        case principal(Credential)
        case refused(AuthenticationError)
        /// A JWT that was not seen before. `authenticate` checks it.
        case pending
    }

    package static let cachedTokensMax = 10_000

    private let tokens: TokenStore?
    private let jwt: JWTConfiguration?
    private let keys: KeySource?
    private let certificates: CertificateRules
    private let cache = Mutex(CredentialCache(countMax: cachedTokensMax))
    /// Nil where no JWTs are accepted: there is nothing to check then, and no threads are needed.
    private let checks: TokenChecks?
    private let checksInFlight = Mutex<[SHA256Hash: Check]>([:])
    private let now: @Sendable () -> Timestamp

    /// Reads the files. Keys at an address are fetched when they are first needed, or by `refreshKeys`.
    ///
    /// - Parameters:
    ///   - fetch: fetches a key set, as `KeySetFetcher` does.
    ///   - now: the time of day. Expiry times are compared with this machine's clock.
    package init(
        _ configuration: AuthenticationConfiguration, logger: Logger, fetch: @escaping KeySetFetch,
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) throws(AuthenticationConfigurationError) {
        var problems = configuration.problems()
        guard problems.isEmpty else { throw AuthenticationConfigurationError(problems: problems) }
        do throws(OSThreadError) { checks = configuration.jwt == nil ? nil : try TokenChecks() } catch {
            throw AuthenticationConfigurationError(problems: ["tokens cannot be checked: \(error)"])
        }
        self.now = now
        certificates = CertificateRules(configuration.certificates)
        jwt = configuration.jwt
        // Both files are read before an error is thrown, so that the error lists the problems of both.
        var tokens: TokenStore?
        var keys: KeySource?
        do throws(AuthenticationConfigurationError) {
            tokens = try configuration.tokenFile.map { path throws(AuthenticationConfigurationError) in
                try TokenStore(path: path, logger: logger)
            }
        } catch { problems += error.problems }
        do throws(AuthenticationConfigurationError) {
            keys = try configuration.jwt.map { jwt throws(AuthenticationConfigurationError) in
                try KeySource(jwt, fetch: fetch, logger: logger, now: now)
            }
        } catch { problems += error.problems }
        self.tokens = tokens
        self.keys = keys
        guard problems.isEmpty else { throw AuthenticationConfigurationError(problems: problems) }
    }

    /// Whether any rule applies to client certificates.
    package var usesCertificates: Bool { !certificates.isEmpty }

    /// Identifies the caller without waiting, if that is possible.
    ///
    /// - Parameter authorization: the header's value; several headers are joined by commas.
    package func attempt(authorization: String?, certificate: PeerCertificate?) -> Attempt {
        do {
            if let authorization {
                let token = try BearerToken.parse(authorization)
                return attempt(token, hash: SHA256Hash(of: token))
            }
            return .principal(try credential(for: certificate))
        } catch {
            return .refused(error)
        }
    }

    /// Identifies the caller. Checks the signature of a new token and waits for keys where that is needed.
    ///
    /// - Parameter source: the address that the call comes from (`Peer.source`), or empty if it is not known.
    ///   `SourcePermits` limits how many tokens of one source are checked at once.
    /// - Throws: the reason of the refusal; `.tooManyChecks` or `.keySourceUnavailable` if too many tokens
    ///   are being checked already.
    package func authenticate(
        authorization: String?, certificate: PeerCertificate?, source: String
    ) async throws(AuthenticationError) -> Credential {
        switch attempt(authorization: authorization, certificate: certificate) {
        case .principal(let credential): return credential
        case .refused(let error): throw error
        case .pending: break
        }
        return try await check(BearerToken.parse(authorization ?? ""), source).value.get()
    }

    /// Reads the files again that have changed. New contents are accepted when the next call finds the same.
    /// It blocks while it reads, so it must not be called on event loops or in tasks.
    package func reload() {
        tokens?.reload()
        keys?.reloadFile()
    }

    /// Fetches the keys from their address if a fetch is due, and returns when the fetch has ended.
    package func refreshKeys() async {
        await keys?.refreshIfDue()
    }

    private func attempt(_ token: [UInt8], hash: SHA256Hash) -> Attempt {
        let now = now()
        if let credential = tokens?.credential(for: hash) {
            return credential.problem(now: now).map { .refused($0) } ?? .principal(credential)
        }
        if let credential = cache.withLock({ $0.credential(for: hash, now: now) }) {
            return .principal(credential)
        }
        return keys != nil && JSONWebToken.isLikely(token) ? .pending : .refused(.unknownToken)
    }

    /// Checks a token that was not seen before. Many calls may bring the same new token at once, so they
    /// share one check, which counts for the source of the first of them.
    private func check(_ bytes: [UInt8], _ source: String) -> Check {
        let hash = SHA256Hash(of: bytes)
        return checksInFlight.withLock { checksInFlight in
            if let check = checksInFlight[hash] { return check }
            let check = Task.detached { [self] in
                defer { self.checksInFlight.withLock { $0[hash] = nil } }
                do throws(AuthenticationError) {
                    return Result<Credential, AuthenticationError>.success(
                        try await verify(bytes, hash, source))
                } catch {
                    return .failure(error)
                }
            }
            checksInFlight[hash] = check
            return check
        }
    }

    /// Checks a token. The work is done on the threads of `TokenChecks`. A token that waits for keys holds
    /// none of their capacity, so tokens whose keys are known overtake it.
    private func verify(
        _ bytes: [UInt8], _ hash: SHA256Hash, _ source: String
    ) async throws(AuthenticationError) -> Credential {
        guard let keys, let jwt, let checks else { throw .unknownToken }
        let token = try await checks.run(for: source) { () throws(AuthenticationError) in
            try JSONWebToken(bytes)
        }
        guard token.isAccessToken || jwt.tokenType != .accessToken else { throw .noAccessToken }
        let key = try await keys.key(for: token.keyID, source: source)
        // The algorithm is the key's. If a token could choose it, a public key might be used as a shared
        // secret.
        guard token.algorithm == key.algorithm else { throw .otherAlgorithm }
        return try await checks.run(for: source) { [self] () async throws(AuthenticationError) in
            guard await key.isValid(token.signature, of: token.signed) else { throw .badSignature }
            let now = now()
            let principal = try jwt.principal(
                of: token.claims(usersClaim: jwt.usersClaim), keyID: key.id, now: now)
            let credential = Credential(principal, revocation: key.revocation)
            // The key may have been withdrawn during the check.
            if let problem = credential.problem(now: now) { throw problem }
            cache.withLock { $0.insert(credential, for: hash) }
            return credential
        }
    }

    private func credential(
        for certificate: PeerCertificate?
    ) throws(AuthenticationError) -> Credential {
        guard !certificates.isEmpty else { throw .missingCredentials }
        guard let certificate else { throw .missingCertificate }
        guard now() < certificate.expiry else { throw .expired }
        guard let (rule, name) = certificates.first(for: certificate.names) else { throw .unknownCertificate }
        let principalName = rule.name ?? name.value
        guard PrincipalName.isValid(principalName) else { throw .unknownCertificate }
        return Credential(
            Principal(
                name: principalName, scopes: rule.scopes, users: rule.users.users(of: principalName),
                expiry: certificate.expiry, source: .certificate(name)),
            revocation: Self.neverRevoked)
    }

    private static let neverRevoked = Revocation()
}
