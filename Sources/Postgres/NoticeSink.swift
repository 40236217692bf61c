import CPQ
import Logging

/// Receives the server's notices and writes them to the log. Without it, libpq would write them to stderr.
final class NoticeSink {
    private let logger: Logger

    init(_ logger: Logger) {
        self.logger = logger
    }

    /// The callback for libpq, which keeps ownership of the result.
    static func receive(_ context: UnsafeMutableRawPointer?, _ result: OpaquePointer?) {
        guard let context = unsafe context, let result = unsafe result else { return }
        let sink = unsafe Unmanaged<NoticeSink>.fromOpaque(context).takeUnretainedValue()
        sink.logger.debug(
            "Postgres sent a notice",
            metadata: [
                "severity": "\(unsafe Diagnostic.severity.read(result) ?? "")",
                "message": "\(unsafe Diagnostic.message.read(result) ?? "")",
            ])
    }
}

/// The fields of an error or notice, by libpq's letters (`PG_DIAG_…` in `postgres_ext.h`).
enum Diagnostic: UnicodeScalar {
    case severity = "V"
    case sqlState = "C"
    case message = "M"
    case constraint = "n"

    func read(_ result: OpaquePointer) -> String? {
        unsafe PQresultErrorField(result, Int32(rawValue.value)).map { unsafe String(cString: $0) }
    }
}
