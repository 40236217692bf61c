import JobService
import NIOCore
import Support

extension ListPage {
    /// The message of the page. Items for which it has no room are left to the next page.
    ///
    /// - Parameters:
    ///   - bytesMax: clients of gRPC accept 4 MiB unless they are configured otherwise. A single item is far smaller.
    ///   - message: the message of some items and the token of the next page.
    func encode(
        bytesMax: Int = 3 << 20, _ message: ([Item], ExactText) -> ByteBuffer
    ) throws(ServiceError) -> ByteBuffer {
        var page = self
        while true {
            let bytes = message(page.items, ExactText(page.nextToken))
            guard bytes.readableBytes > bytesMax, page.items.count > 1 else { return bytes }
            let fitting = page.items.count * bytesMax / bytes.readableBytes
            try page.shorten(to: min(fitting, page.items.count - 1))
        }
    }
}
