internal import Logging
internal import NIOPosix
internal import NIOSSL
internal import Synchronization
internal import SystemFiles

/// The server's certificate, key and client authorities, reloaded when their files change. A new connection gets what was
/// read last.
///
/// Open connections keep what they began with, unless an authority has been removed since (`isTrusted`).
final class TLSContext: Sendable {
    private struct Material {
        var context: NIOSSLContext
        var authorities: Set<NIOSSLCertificate>
    }

    private struct State {
        var material: Material
        /// The authorities by which a connection may have been accepted since the last check that found the files unchanged.
        var trusted: Set<NIOSSLCertificate>
        /// How many times an authority was removed.
        var trust = 0
        /// The files' versions when they were last read, successfully or not.
        var versions: [FileVersion?]
    }

    /// The TLS context of a new connection.
    struct Beginning {
        var context: NIOSSLContext
        fileprivate var trust: Int
    }

    private let files: ServerConfiguration.TLS
    private let logger: Logger
    private let state: Mutex<State>

    /// Reads files, which blocks.
    init(_ files: ServerConfiguration.TLS, logger: Logger) throws(TLSFileError) {
        self.files = files
        self.logger = logger
        // The versions are taken before reading, so that files written meanwhile are read again.
        let versions = files.paths.map { FileVersion(path: $0) }
        let material = try Self.read(files)
        state = Mutex(State(material: material, trusted: material.authorities, versions: versions))
    }

    var current: Beginning {
        state.withLock { Beginning(context: $0.material.context, trust: $0.trust) }
    }

    /// Returns false if an authority has been removed since then. The TLS library does not tell whether it was this client's,
    /// so the client has to connect again and is verified again.
    func isTrusted(_ beginning: Beginning) -> Bool {
        state.withLock { $0.trust == beginning.trust }
    }

    /// Reads the files again if one of them has changed, which blocks. If they do not match, as while they are being
    /// replaced one by one, the last ones stay in use until the next change.
    ///
    /// A removed authority loses its trust when the files are unchanged at the next check, because they may be half written
    /// now.
    func reloadIfChanged() {
        let versions = files.paths.map { FileVersion(path: $0) }
        let hasChanged = state.withLock { state in
            defer { state.versions = versions }
            return state.versions != versions
        }
        guard hasChanged else { return revokeRemovedAuthorities() }
        do {
            let material = try Self.read(files)
            state.withLock { state in
                state.material = material
                state.trusted.formUnion(material.authorities)
            }
            logger.notice("the certificate was reloaded")
        } catch {
            logger.warning(
                "the certificate could not be reloaded: the previous one stays in use",
                metadata: ["error": "\(error)"])
        }
    }

    private func revokeRemovedAuthorities() {
        let hasRevoked = state.withLock { state in
            guard state.trusted != state.material.authorities else { return false }
            state.trusted = state.material.authorities
            state.trust += 1
            return true
        }
        if hasRevoked {
            logger.notice("a certificate authority of clients was removed: all clients must reconnect")
        }
    }

    /// The cipher suites of TLS 1.2 that RFC 9113 allows (section 9.2.2 and appendix A). Those of TLS 1.3 are fixed.
    private static let cipherSuites: [NIOTLSCipher] = [
        .TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, .TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        .TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, .TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        .TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, .TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ]

    private static func read(_ files: ServerConfiguration.TLS) throws(TLSFileError) -> Material {
        let chain = try TLSFile.certificates(files.certificateChainPath).map {
            NIOSSLCertificateSource.certificate($0)
        }
        let key = try TLSFile.privateKey(files.privateKeyPath)
        var settings = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain, privateKey: .privateKey(key))
        settings.minimumTLSVersion = .tlsv12
        settings.cipherSuiteValues = cipherSuites
        settings.applicationProtocols = ["h2"]
        var authorities: [NIOSSLCertificate] = []
        if let path = files.clientCAPath {
            authorities = try TLSFile.certificates(path)
            settings.trustRoots = .certificates(authorities)
            settings.certificateVerification = .noHostnameVerification
        }
        return Material(
            context: try TLSFile.context(settings, from: files.paths), authorities: Set(authorities))
    }
}

extension ServerConfiguration.TLS {
    fileprivate var paths: [String] {
        [certificateChainPath, privateKeyPath] + (clientCAPath.map { [$0] } ?? [])
    }
}
