internal import CNGHTTP2
package import NIOCore

/// One HTTP/2 connection as a machine: bytes in, events out; calls in, bytes out. It owns no socket and
/// never waits.
///
/// Not Sendable: it belongs to one event loop. The library holds an unretained pointer to this object, which
/// is good because the object frees the library's session in `deinit` and nobody else calls the library.
/// The library's callbacks only record events, for it must not be entered again from inside of them.
@safe package final class Session {
    package enum Role: Sendable {
        case server
        case client
    }

    package let role: Role
    package let configuration: SessionConfiguration
    /// Bytes written by the user on all streams and not yet taken by `send`.
    package internal(set) var queuedBytes = 0
    /// The number of open streams.
    package private(set) var openStreams = 0
    /// RST_STREAM frames sent since the beginning for what the peer did: broken rules and streams over the limit.
    package internal(set) var resetsForFaults = 0
    /// Frames received since the beginning for which a stream, or the connection, is reset.
    package internal(set) var invalidFramesReceived = 0
    /// Bytes of all streams that were handed to the connection since the beginning.
    package internal(set) var bodyBytesSent = 0
    /// HEADERS and DATA frames sent since the beginning.
    package internal(set) var messageFramesSent = 0
    /// Frames received since the beginning that cost their sender nothing: see `FrameScanner`.
    package var overheadFramesReceived: Int { scanner.overheadFrames }
    /// HEADERS received since the beginning that the library ignores: of streams that are closed, or opened after GOAWAY.
    package var headersIgnored: Int { scanner.headersFrames - headersBegun }
    var headersBegun = 0
    /// The sum of the streams that were open when each SETTINGS since the beginning was received: the library may have
    /// gone through them all (RFC 9113 section 6.9.2).
    package internal(set) var streamsResettled = 0

    /// The streams that are not closed, each in the slot it knows. Keeps alive what the library points to.
    private var slots: [Stream?] = []
    private var freeSlots: [Int] = []

    private let library: OpaquePointer
    /// Freed after the library's session, which refers to them.
    private var prepared: [PreparedBox] = []

    var events: [Event] = []
    /// The header list that is being received.
    var headers: HeaderScratch
    private var lastHeaders = HeaderBlock()
    /// The bytes being received, and where they lie, while `receive` runs.
    private var input = ByteBuffer()
    private var inputStart: UnsafePointer<UInt8>?
    /// DATA received and not yet given back to the connection's window.
    private var connectionBytesReceived = 0
    private var scanner: FrameScanner
    /// The first frame, with the settings, is sent.
    private var hasSent = false

    private final class PreparedBox {
        let storage: PreparedStorage
        init(_ storage: consuming PreparedStorage) { self.storage = storage }
    }

    package init(role: Role, configuration: SessionConfiguration = SessionConfiguration()) {
        precondition(configuration.headerListBytesMax <= 65_535, "a header list has 65,535 bytes at most")
        self.role = role
        self.configuration = configuration
        self.headers = HeaderScratch(bytesMax: configuration.headerListBytesMax)
        self.scanner = FrameScanner(prefaceBytes: role == .server ? Int(NGHTTP2_CLIENT_MAGIC_LEN) : 0)

        var callbacks: OpaquePointer?
        var option: OpaquePointer?
        var session: OpaquePointer?
        // Creating fails only when memory is out, which no Swift program survives.
        unsafe precondition(nghttp2_session_callbacks_new(&callbacks) == 0, "out of memory")
        unsafe precondition(nghttp2_option_new(&option) == 0, "out of memory")
        unsafe Session.setCallbacks(callbacks)
        unsafe nghttp2_option_set_no_auto_window_update(option, 1)
        unsafe nghttp2_option_set_no_closed_streams(option, 1)
        unsafe nghttp2_option_set_stream_reset_rate_limit(
            option, configuration.resetsBurst, configuration.resetsPerSecond)
        unsafe nghttp2_option_set_max_continuations(option, configuration.continuationsMax)
        let created =
            switch role {
            case .server: unsafe nghttp2_session_server_new2(&session, callbacks, nil, option)
            case .client: unsafe nghttp2_session_client_new2(&session, callbacks, nil, option)
            }
        unsafe nghttp2_session_callbacks_del(callbacks)
        unsafe nghttp2_option_del(option)
        guard created == 0, let session = unsafe session else { preconditionFailure("out of memory") }
        unsafe library = unsafe session
        unsafe nghttp2_session_set_user_data(library, Unmanaged.passUnretained(self).toOpaque())
        submitSettings()
    }

    deinit {
        unsafe nghttp2_session_del(library)
    }

    private func submitSettings() {
        func entry(_ id: nghttp2_settings_id, _ value: UInt32) -> nghttp2_settings_entry {
            nghttp2_settings_entry(settings_id: Int32(bitPattern: id.rawValue), value: value)
        }
        // The first entry of the first frame, where `announceStreamLimit` finds it.
        let streamsMax = configuration.concurrentStreamsMax
        var settings = [
            entry(
                NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, role == .server ? 2 * streamsMax : streamsMax),
            entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, UInt32(configuration.streamWindowBytes)),
            entry(NGHTTP2_SETTINGS_MAX_FRAME_SIZE, configuration.frameBytesMax),
            entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, UInt32(configuration.headerListBytesMax)),
        ]
        switch role {
        case .client:
            settings.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
        case .server:
            // The priority tree is work a peer can order at no cost; nobody uses it for gRPC.
            settings.append(entry(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1))
        }
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        let submitted = unsafe nghttp2_submit_settings(library, flags, settings, settings.count)
        precondition(submitted == 0, "the settings are within what RFC 9113 allows")
        _ = unsafe nghttp2_session_set_local_window_size(
            library, flags, 0, configuration.connectionWindowBytes)
    }

    /// A stream over the limit is to be refused, and the connection to go on (RFC 9113 section 5.1.2). The library ends
    /// the connection. So it is given twice the limit, and the frame that it makes of that is put right here; who uses the
    /// session refuses the streams in between, and a peer that goes even further may lose its connection.
    private func announceStreamLimit(_ frame: inout ByteBuffer, at index: Int) {
        frame.setInteger(configuration.concurrentStreamsMax, at: index + 9 + 2)
    }

    // MARK: Bytes in, bytes out

    /// Takes what came from the peer. The events it makes wait for `forEachEvent`.
    ///
    /// A peer that breaks the protocol is told so by a GOAWAY, which `send` gives out; `isFinished` is true
    /// after that. It throws when the connection should be closed at once.
    package func receive(_ bytes: ByteBuffer) throws(HTTP2Error) {
        input = bytes
        headers.beginRead()
        let count = bytes.readableBytes
        let result = unsafe bytes.withUnsafeReadableBytes { source in
            let start = unsafe source.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe inputStart = start
            unsafe scanner.scan(source)
            return unsafe nghttp2_session_mem_recv(library, start, count)
        }
        unsafe inputStart = nil
        input = ByteBuffer()
        if connectionBytesReceived > 0 {
            // Each stream has its own window to hold the sender back: the connection's is given back at once.
            _ = unsafe nghttp2_session_consume_connection(library, connectionBytesReceived)
            connectionBytesReceived = 0
        }
        if result < 0 { throw HTTP2Error(libraryCode: result) }
    }

    /// Hands out every recorded event, in order, with those that the handling itself makes.
    package func forEachEvent(_ body: (Event) -> Void) {
        while !events.isEmpty {
            var batch = spareEvents
            swap(&batch, &events)
            for event in batch {
                body(event)
            }
            batch.removeAll(keepingCapacity: true)
            spareEvents = batch
        }
    }
    private var spareEvents: [Event] = []

    /// Appends what is to be sent to `buffer` until that holds `limit` bytes or nothing is left, and says
    /// whether something may be left. May make events (`closed`, `drained`).
    package func send(into buffer: inout ByteBuffer, limit: Int) throws(HTTP2Error) -> Bool {
        while buffer.readableBytes < limit {
            var data = unsafe UnsafePointer<UInt8>?.none
            let count = unsafe nghttp2_session_mem_send(library, &data)
            if count == 0 { return false }
            if count < 0 { throw HTTP2Error(libraryCode: count) }
            // The bytes are the library's and good until the next call into it.
            let index = buffer.writerIndex
            unsafe buffer.writeBytes(UnsafeRawBufferPointer(start: data, count: count))
            if role == .server, !hasSent { announceStreamLimit(&buffer, at: index) }
            hasSent = true
        }
        return true
    }

    /// Neither side has anything more to say: the connection is to be closed.
    package var isFinished: Bool {
        unsafe nghttp2_session_want_read(library) == 0 && nghttp2_session_want_write(library) == 0
    }

    // MARK: Streams

    /// The streams that are not closed, in no order.
    package var streams: [Stream] {
        slots.compactMap { $0 }
    }

    /// Copies a header list to where the library can refer to it for the session's life.
    package func prepare(_ fields: HeaderFields) -> PreparedHeaders {
        prepared.append(PreparedBox(fields.prepared()))
        return PreparedHeaders(index: prepared.count - 1)
    }

    /// Opens a stream with a request (client). Its body is what is written until `finish`.
    package func request(_ headers: HeaderFields) throws(HTTP2Error) -> Stream {
        guard unsafe nghttp2_session_check_request_allowed(library) != 0 else {
            throw HTTP2Error(libraryCode: Int(NGHTTP2_ERR_START_STREAM_NOT_ALLOWED.rawValue))
        }
        let stream = Stream(id: unsafe Int32(bitPattern: nghttp2_session_get_next_stream_id(library)))
        let pointer = unsafe Unmanaged.passUnretained(stream).toOpaque()
        var provider = unsafe Session.dataProvider(for: stream)
        let id = unsafe headers.withNameValues { list, count in
            unsafe nghttp2_submit_request(library, nil, list, count, &provider, pointer)
        }
        if id < 0 { throw HTTP2Error(libraryCode: Int(id)) }
        keep(stream)
        return stream
    }

    /// Begins the answer on a stream (server); with `endStream` it is all of the answer.
    package func respond(_ stream: Stream, _ headers: OutboundHeaders, endStream: Bool) throws(HTTP2Error) {
        guard !stream.isClosed else { return }
        let result: CInt
        if endStream {
            stream.isFinished = true
            result = unsafe withNameValues(headers) { list, count in
                unsafe nghttp2_submit_response(library, stream.id, list, count, nil)
            }
        } else {
            var provider = unsafe Session.dataProvider(for: stream)
            result = unsafe withNameValues(headers) { list, count in
                unsafe nghttp2_submit_response(library, stream.id, list, count, &provider)
            }
        }
        if result < 0 { throw HTTP2Error(libraryCode: Int(result)) }
    }

    /// Queues a part of the body: the prefix, then the buffer, whose memory is kept until it is sent.
    package func write(_ prefix: Stream.Prefix, _ buffer: ByteBuffer, to stream: Stream) {
        guard !stream.isClosed, !stream.isFinished else { return }
        queuedBytes += stream.append(prefix: prefix, buffer)
        resume(stream)
    }

    /// Ends this side of the stream after what is queued, with trailers if there are any.
    package func finish(_ stream: Stream, trailers: OutboundHeaders?) {
        guard !stream.isClosed, !stream.isFinished else { return }
        stream.isFinished = true
        stream.trailers = trailers
        resume(stream)
    }

    /// Once the end of our side is sent, reset the stream with NO_ERROR unless the peer has ended its side: "I
    /// have answered, the rest of your request does not matter" (RFC 9113 section 8.1). Call it before `finish`.
    package func resetAfterEnd(_ stream: Stream) {
        stream.resetsAfterEnd = !stream.isRemoteClosed
    }

    package func reset(_ stream: Stream, _ code: ErrorCode) {
        guard !stream.isClosed else { return }
        queuedBytes -= stream.dropQueued()
        unsafe nghttp2_submit_rst_stream(
            library, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code.rawValue)
    }

    /// Gives `bytes` of the stream's window back to the peer.
    package func consume(_ bytes: Int, of stream: Stream) {
        guard bytes > 0, !stream.isClosed, !stream.isRemoteClosed else { return }
        _ = unsafe nghttp2_session_consume_stream(library, stream.id, bytes)
    }

    /// The peer's window of this stream has no room for what is queued: not others' streams hold it up, nor the socket.
    package func isHeldByPeer(_ stream: Stream) -> Bool {
        guard !stream.isClosed else { return false }
        return unsafe nghttp2_session_get_stream_remote_window_size(library, stream.id) <= 0
    }

    /// The peer's window of all streams together has no room.
    package var isHeldByPeer: Bool {
        unsafe nghttp2_session_get_remote_window_size(library) <= 0
    }

    /// Makes one `Event.drained` when no more than `mark` bytes are queued on the stream.
    package func notifyWhenDrained(_ stream: Stream, to mark: Int) {
        stream.drainMark = UInt32(clamping: mark)
    }

    private func resume(_ stream: Stream) {
        guard stream.isDeferred else { return }
        stream.isDeferred = false
        unsafe nghttp2_session_resume_data(library, stream.id)
    }

    // MARK: The connection

    /// Queues a PING with eight opaque bytes; the answer is `Event.pingAcknowledged`.
    package func ping(_ opaque: UInt64) {
        unsafe withUnsafeBytes(of: opaque.bigEndian) { bytes in
            let data = unsafe bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            _ = unsafe nghttp2_submit_ping(library, UInt8(NGHTTP2_FLAG_NONE.rawValue), data)
        }
    }

    /// GOAWAY with the last stream 2^31 - 1: new streams are still served, the peer is asked to open none.
    package func announceShutdown() {
        _ = unsafe nghttp2_submit_shutdown_notice(library)
    }

    /// GOAWAY with the last stream that was processed; streams opened later are ignored, older ones go on.
    package func refuseNewStreams() {
        let last = unsafe nghttp2_session_get_last_proc_stream_id(library)
        _ = unsafe nghttp2_submit_goaway(
            library, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, ErrorCode.noError.rawValue, nil, 0)
    }

    /// GOAWAY with an error: nothing more is read, and the session is finished once it is sent.
    package func terminate(_ code: ErrorCode) {
        _ = unsafe nghttp2_session_terminate_session(library, code.rawValue)
    }

    /// GOAWAY with an error and a word that says why. Nothing more is to be given to `receive`, and the connection is
    /// to be closed once this is sent: streams are not waited for.
    package func goAway(_ code: ErrorCode, _ reason: String) {
        let last = unsafe nghttp2_session_get_last_proc_stream_id(library)
        var reason = reason
        _ = reason.withUTF8 { bytes in
            unsafe nghttp2_submit_goaway(
                library, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, code.rawValue, bytes.baseAddress,
                bytes.count)
        }
    }

    // MARK: For the callbacks

    private func withNameValues<R>(
        _ headers: OutboundHeaders, _ body: (UnsafePointer<nghttp2_nv>?, Int) -> R
    ) -> R {
        switch headers {
        case .prepared(let headers): unsafe prepared[headers.index].storage.withNameValues(body)
        case .fields(let fields): unsafe fields.withNameValues(body)
        }
    }

    func submitTrailers(_ trailers: OutboundHeaders, on stream: Stream) -> CInt {
        unsafe withNameValues(trailers) { list, count in
            unsafe nghttp2_submit_trailer(library, stream.id, list, count)
        }
    }

    private func keep(_ stream: Stream) {
        openStreams += 1
        if let slot = freeSlots.popLast() {
            stream.slot = Int32(slot)
            slots[slot] = stream
        } else {
            stream.slot = Int32(slots.count)
            slots.append(stream)
        }
    }

    /// The library is done with the stream.
    func release(_ stream: Stream) {
        openStreams -= 1
        slots[Int(stream.slot)] = nil
        freeSlots.append(Int(stream.slot))
    }

    /// Lets the library point to the stream, which is kept alive until it is closed.
    func register(_ stream: Stream) {
        keep(stream)
        let pointer = unsafe Unmanaged.passUnretained(stream).toOpaque()
        unsafe nghttp2_session_set_stream_user_data(library, stream.id, pointer)
    }

    func stream(_ id: Int32) -> Stream? {
        guard let pointer = unsafe nghttp2_session_get_stream_user_data(library, id) else { return nil }
        return unsafe Unmanaged<Stream>.fromOpaque(pointer).takeUnretainedValue()
    }

    func receivedData(_ data: UnsafePointer<UInt8>, count: Int, on stream: Stream) {
        connectionBytesReceived += count
        if let inputStart = unsafe inputStart {
            let offset = unsafe data - inputStart
            if offset >= 0,
                let slice = input.getSlice(at: input.readerIndex + offset, length: count)
            {
                events.append(.data(stream, slice))
                return
            }
        }
        // The library kept the bytes elsewhere: copy them.
        let copy = unsafe ByteBuffer(bytes: UnsafeBufferPointer(start: data, count: count))
        events.append(.data(stream, copy))
    }

    /// The received list, sharing the memory of the one before it if it is the same.
    func finishedHeaders() -> HeaderBlock {
        if !headers.isEqual(to: lastHeaders) { lastHeaders = headers.block() }
        return lastHeaders
    }
}
