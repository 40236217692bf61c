internal import Glibc
internal import NIOSSL

/// A file of certificates or a key that cannot be used. The TLS library's own errors do not name the file.
package struct TLSFileError: Error, CustomStringConvertible {
    package let description: String
}

/// Reads PEM files, which blocks.
enum TLSFile {
    static func certificates(_ path: String) throws(TLSFileError) -> [NIOSSLCertificate] {
        try read("certificate", path) { try NIOSSLCertificate.fromPEMFile(path) }
    }

    static func privateKey(_ path: String) throws(TLSFileError) -> NIOSSLPrivateKey {
        try read("private key", path) { try NIOSSLPrivateKey(file: path, format: .pem) }
    }

    /// - Parameter paths: the files of the configuration, for the error.
    static func context(
        _ configuration: TLSConfiguration, from paths: [String]
    ) throws(TLSFileError) -> NIOSSLContext {
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            let files = paths.map { "'\($0)'" }.joined(separator: ", ")
            throw TLSFileError(description: "TLS cannot be used with \(files): \(error)")
        }
    }

    private static func read<Value>(
        _ what: String, _ path: String, _ body: () throws -> Value
    ) throws(TLSFileError) -> Value {
        do {
            return try body()
        } catch {
            let reason =
                access(path, R_OK) == 0
                ? "the file has none in PEM, or only one with a passphrase"
                : unsafe String(cString: strerror(errno))
            throw TLSFileError(description: "cannot read a \(what) from '\(path)': \(reason)")
        }
    }
}
