internal import Logging
internal import NIOSSL
internal import Synchronization
internal import SystemFiles

/// The server's certificate, key and client authorities, read again when their files change. A new connection gets what
/// was accepted last.
///
/// Open connections keep what they began with, unless an authority has been removed since (`isTrusted`).
final class TLSContext: Sendable {
    /// The largest file. The authorities of a whole system have about 250 KiB.
    private static let fileBytesMax = 4 << 20

    private struct Material {
        var context: NIOSSLContext
        var authorities: Set<NIOSSLCertificate>
    }

    /// The state from which new connections are served.
    private struct State {
        var material: Material
        /// The number of times that an authority was removed.
        var trust = 0
    }

    /// The TLS context of a new connection.
    struct Beginning {
        var context: NIOSSLContext
        fileprivate var trust: Int
    }

    private let logger: Logger
    /// The lock is held while the files are read, which may take long.
    private let files: Mutex<Files>
    private let state: Mutex<State>

    /// Reads the files, which blocks.
    init(_ configuration: ServerConfiguration.TLS, logger: Logger) throws(TLSFileError) {
        self.logger = logger
        var files = Files(configuration, bytesMax: Self.fileBytesMax)
        try files.poll()
        let material = try Self.material(from: files)
        self.files = Mutex(files)
        state = Mutex(State(material: material))
    }

    var current: Beginning {
        state.withLock { Beginning(context: $0.material.context, trust: $0.trust) }
    }

    /// Returns false if an authority has been removed since then. The TLS library does not tell whether it was this
    /// client's, so the client has to connect again and is verified again.
    func isTrusted(_ beginning: Beginning) -> Bool {
        state.withLock { $0.trust == beginning.trust }
    }

    /// Reads the files again if one of them has changed, which blocks. New contents are accepted when the next call finds
    /// the same. If the files do not match, as while they are being replaced one by one, the last ones stay in use until
    /// the next change.
    func reload() {
        files.withLock { files in
            do throws(TLSFileError) {
                guard try files.poll() else { return }
                use(try Self.material(from: files))
                files.problem = nil
            } catch {
                guard error != files.problem else { return }
                files.problem = error
                logger.warning(
                    "the certificate could not be reloaded: the previous one stays in use",
                    metadata: ["error": "\(error)"])
            }
        }
    }

    private func use(_ material: Material) {
        let hasRevoked = state.withLock { state in
            let isLess = !state.material.authorities.isSubset(of: material.authorities)
            state.material = material
            if isLess { state.trust += 1 }
            return isLess
        }
        logger.notice("the certificate was reloaded")
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

    private static func material(from files: Files) throws(TLSFileError) -> Material {
        let chain = try TLSFile.certificates(files.chain.path, files.chain.bytes).map {
            NIOSSLCertificateSource.certificate($0)
        }
        let key = try TLSFile.privateKey(files.key.path, files.key.bytes)
        var settings = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain, privateKey: .privateKey(key))
        settings.minimumTLSVersion = .tlsv12
        settings.cipherSuiteValues = cipherSuites
        settings.applicationProtocols = ["h2"]
        var authorities: [NIOSSLCertificate] = []
        if let clientCA = files.clientCA {
            authorities = try TLSFile.certificates(clientCA.path, clientCA.bytes)
            settings.trustRoots = .certificates(authorities)
            settings.certificateVerification = .noHostnameVerification
        }
        return Material(
            context: try TLSFile.context(settings, from: files.all.map(\.path)),
            authorities: Set(authorities))
    }
}

extension TLSContext {
    /// A file with the contents that were accepted last.
    private struct File {
        private var watched: WatchedFile
        private(set) var bytes: [UInt8] = []

        init(path: String, bytesMax: Int) {
            watched = WatchedFile(path: path, bytesMax: bytesMax)
        }

        var path: String { watched.path }

        /// Returns whether there are new contents.
        mutating func poll() throws(TLSFileError) -> Bool {
            switch watched.read() {
            case .unchanged: return false
            case .failed(let problem): throw TLSFileError(description: "'\(path)' \(problem)")
            case .changed(let bytes):
                self.bytes = bytes
                return true
            }
        }
    }

    private struct Files {
        private(set) var all: [File]
        /// The problem that was logged last; nil: there is none.
        var problem: TLSFileError?

        init(_ files: ServerConfiguration.TLS, bytesMax: Int) {
            all = [files.certificateChainPath, files.privateKeyPath, files.clientCAPath].compactMap { path in
                path.map { File(path: $0, bytesMax: bytesMax) }
            }
        }

        var chain: File { all[0] }
        var key: File { all[1] }
        var clientCA: File? { all.count > 2 ? all[2] : nil }

        /// Polls every file, and returns whether one has new contents. Throws the problem of the first file that cannot
        /// be read; that file counts as changed once it can be read again.
        @discardableResult
        mutating func poll() throws(TLSFileError) -> Bool {
            var hasChanged = false
            var problem: TLSFileError?
            for index in all.indices {
                do throws(TLSFileError) {
                    if try all[index].poll() { hasChanged = true }
                } catch {
                    problem = problem ?? error
                }
            }
            if let problem { throw problem }
            return hasChanged
        }
    }
}
