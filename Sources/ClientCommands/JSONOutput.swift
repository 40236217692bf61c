import GRPC
import NIOCore
import SignalboxProto
import Support

/// A response, and the bytes from which it was read.
struct Answer<Response: ResponseMessage> {
    let message: Response
    let bytes: ByteBuffer

    /// Prints the response as JSON, or each message in one of its fields.
    func writeJSON(_ field: String? = nil) throws {
        for line in try JSONOutput.lines(bytes, of: Response.self, in: field) {
            try Terminal.write(line + "\n")
        }
    }
}

/// The JSON of `--json`: protobuf's JSON mapping with the field names of the protos.
enum JSONOutput {
    /// One line for each message. Characters that could drive a terminal are escaped as in JSON.
    static func lines<Response: ResponseMessage>(
        _ bytes: ByteBuffer, of _: Response.Type, in field: String? = nil
    ) throws -> [String] {
        do {
            return try Response.json(bytes, in: field).map { PrintableText.escapedJSON($0) }
        } catch {
            throw Status(.internalError, "the server's response cannot be read: \(error)")
        }
    }
}
