package import JobModel
package import Logging
internal import Synchronization

/// Says who calls, from the call's credentials alone.
///
/// Of a call with a bearer token and a certificate, the token counts, be it good or bad: it was put into this very
/// call, while the certificate is the connection's, which may be a proxy's.
///
/// Nothing here waits for time or starts by itself. The owner calls `reload` twice a second or so, and `refreshKeys` each
/// second.
package final class Authenticator: Sendable {
    private typealias Check = Task<Result<Credential, AuthenticationError>, Never>

    /// The result that is known without waiting.
    package enum Attempt: Sendable {
        case principal(Credential)
        case refused(AuthenticationError)
        /// A JWT that was not seen before: `authenticate` checks it.
        case pending
    }

    package static let cachedTokensMax = 10_000

    private let tokens: TokenStore?
    private let jwt: JWTConfiguration?
    private let keys: KeySource?
    private let certificates: CertificateRules
    private let cache = Mutex(CredentialCache(countMax: cachedTokensMax))
    private let checks = TokenChecks()
    private let underWay = Mutex<[SHA256Hash: Check]>([:])
    private let now: @Sendable () -> Timestamp

    /// Reads the files. Keys at an address are fetched when they are needed first, or by `refreshKeys`.
    ///
    /// - Parameters:
    ///   - fetch: as `KeySetFetcher` does it.
    ///   - now: the time of day. That of this machine is what there is to compare an expiry with.
    package init(
        _ configuration: AuthenticationConfiguration, logger: Logger, fetch: @escaping KeySetFetch,
        now: @escaping @Sendable () -> Timestamp = { .now }
    ) throws(AuthenticationConfigurationError) {
        var problems = configuration.problems()
        guard problems.isEmpty else { throw AuthenticationConfigurationError(problems: problems) }
        self.now = now
        certificates = CertificateRules(configuration.certificates)
        jwt = configuration.jwt
        // Both files are looked at before either is complained about.
        var tokens: TokenStore?
        var keys: KeySource?
        do throws(AuthenticationConfigurationError) {
            tokens = try configuration.tokenFile.map { path throws(AuthenticationConfigurationError) in
                try TokenStore(path: path, now: now(), logger: logger)
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

    /// Whether there is anything that a client certificate is asked for.
    package var usesCertificates: Bool { !certificates.isEmpty }

    /// Never waits.
    ///
    /// - Parameter authorization: the header's value; several headers joined by commas.
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

    /// Checks a signature, and gets keys, where that is needed.
    ///
    /// - Parameter source: where the call comes from (`Peer.source`): as many tokens of one source are checked as
    ///   `SourcePlaces` has room for. Empty: not known.
    /// - Throws: what is wrong; `.tooManyChecks` and `.keySourceUnavailable` where too many tokens are being checked already.
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

    /// Reads the files again that have changed; what they say counts when the next call finds the same. Blocks while it
    /// reads: not for event loops and tasks.
    package func reload() {
        tokens?.reload(now: now())
        keys?.reloadFile()
    }

    /// Fetches the keys from their address if it is time, and returns when they are there, or are not to be had.
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

    /// Very many calls may come with the same new token at once: it is checked once, for all of them. The check is
    /// one of the source that the first of them came from.
    private func check(_ bytes: [UInt8], _ source: String) -> Check {
        let hash = SHA256Hash(of: bytes)
        return underWay.withLock { underWay in
            if let check = underWay[hash] { return check }
            let check = Task.detached { [self] in
                defer { self.underWay.withLock { $0[hash] = nil } }
                do throws(AuthenticationError) {
                    return Result<Credential, AuthenticationError>.success(
                        try await verify(bytes, hash, source))
                } catch {
                    return .failure(error)
                }
            }
            underWay[hash] = check
            return check
        }
    }

    /// Only waits where it runs: the work is done on threads for it. Who waits for keys has none of their places, so tokens
    /// whose keys are there pass by.
    private func verify(
        _ bytes: [UInt8], _ hash: SHA256Hash, _ source: String
    ) async throws(AuthenticationError) -> Credential {
        guard let keys, let jwt else { throw .unknownToken }
        let token = try await checks.run(for: source) { () throws(AuthenticationError) in
            try JSONWebToken(bytes)
        }
        guard token.isAccessToken || !jwt.wantsAccessTokens else { throw .noAccessToken }
        let key = try await keys.key(for: token.keyID, source: source)
        // The key says how it is used. A token that could choose might have a public key taken for a shared secret.
        guard token.algorithm == key.algorithm else { throw .otherAlgorithm }
        return try await checks.run(for: source) { [self] () async throws(AuthenticationError) in
            guard await key.isValid(token.signature, of: token.signed) else { throw .badSignature }
            let now = now()
            let principal = try jwt.principal(
                of: token.claims(usersClaim: jwt.usersClaim), keyID: key.id, now: now)
            let credential = Credential(principal, revocation: key.revocation)
            // The key may have been withdrawn meanwhile.
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
