internal import Glibc
internal import NIOSSL

/// A file of certificates or a key that cannot be used. The TLS library's own errors do not name the file.
package struct TLSFileError: Error, Equatable, CustomStringConvertible {
    package let description: String
}

/// Reads PEM files. This blocks unless the contents are given.
enum TLSFile {
    /// - Parameter bytes: the contents of the file; nil: it is read.
    static func certificates(
        _ path: String, _ bytes: [UInt8]? = nil
    ) throws(TLSFileError) -> [NIOSSLCertificate] {
        try read("certificate", path, bytes) { bytes in
            try bytes.map { try NIOSSLCertificate.fromPEMBytes($0) } ?? NIOSSLCertificate.fromPEMFile(path)
        }
    }

    /// - Parameter bytes: the contents of the file; nil: it is read.
    static func privateKey(
        _ path: String, _ bytes: [UInt8]? = nil
    ) throws(TLSFileError) -> NIOSSLPrivateKey {
        try read("private key", path, bytes) { bytes in
            try bytes.map { try NIOSSLPrivateKey(bytes: $0, format: .pem) }
                ?? NIOSSLPrivateKey(file: path, format: .pem)
        }
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
        _ what: String, _ path: String, _ bytes: [UInt8]?, _ body: ([UInt8]?) throws -> Value
    ) throws(TLSFileError) -> Value {
        do {
            return try body(bytes)
        } catch {
            let reason =
                bytes != nil || access(path, R_OK) == 0
                ? "the file has none in PEM, or only one with a passphrase"
                : unsafe String(cString: strerror(errno))
            throw TLSFileError(description: "cannot read a \(what) from '\(path)': \(reason)")
        }
    }
}
