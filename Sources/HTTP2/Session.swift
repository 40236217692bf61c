internal import CNGHTTP2
package import NIOCore

/// One HTTP/2 connection as a state machine: bytes in, events out; calls in, bytes out. It owns no socket and
/// never waits.
///
/// It is not Sendable, because it belongs to one event loop. The library holds an unretained pointer to this
/// object. The pointer stays valid, because this object frees the library's session in `deinit`, and only this
/// object calls the library. The callbacks only record events, because the library must not be called from inside
/// them.
@safe package final class Session {
    package enum Role: Sendable {
        case server
        case client
    }

    package let role: Role
    package let configuration: SessionConfiguration
    /// The bytes that were written on all streams and not yet taken by `send`.
    package internal(set) var queuedBytes = 0
    /// The number of open streams.
    package private(set) var openStreams = 0
    /// The number of RST_STREAM frames sent since the beginning for faults of the peer: protocol errors and
    /// streams over the limit.
    package internal(set) var resetsForFaults = 0
    /// The number of frames received since the beginning that caused a reset of a stream or of the connection.
    package internal(set) var invalidFramesReceived = 0
    /// The body bytes of all streams that were handed to the connection since the beginning.
    package internal(set) var bodyBytesSent = 0
    /// The number of HEADERS and DATA frames sent since the beginning.
    package internal(set) var messageFramesSent = 0
    /// The number of received frames since the beginning that cost their sender nothing; see `FrameScanner`.
    package var overheadFramesReceived: Int { scanner.overheadFrames }
    /// The number of HEADERS received since the beginning that the library ignored, because their stream is
    /// closed or was opened after GOAWAY.
    package var headersIgnored: Int { scanner.headersFrames - headersBegun }
    var headersBegun = 0
    /// The sum of the numbers of open streams at each SETTINGS received since the beginning. The library may have
    /// visited all of them each time (RFC 9113 section 6.9.2).
    package internal(set) var streamsResettled = 0

    /// The open streams, each at the index in its `slot`. They keep alive the objects to which the library
    /// points.
    private var slots: [Stream?] = []
    private var freeSlots: [Int] = []

    private let library: OpaquePointer
    /// Prepared header lists. They are freed after the library's session, which refers to them.
    private var prepared: [PreparedBox] = []

    var events: [Event] = []
    /// The header list that is being received.
    var headers: HeaderScratch
    private var lastHeaders = HeaderBlock()
    /// The bytes being received and their address, while `receive` runs.
    private var input = ByteBuffer()
    private var inputStart: UnsafePointer<UInt8>?
    /// The bytes of DATA that were received and not yet returned to the connection's window.
    private var connectionBytesReceived = 0
    private var scanner: FrameScanner
    /// Whether the first frame, which has the settings, was sent.
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
        // Creation fails only when memory is out, which no Swift program survives.
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
        // The stream limit must be the first entry of the first frame, where `announceStreamLimit` finds it.
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
            // A peer could cause work for the priority tree at no cost, and gRPC does not use it.
            settings.append(entry(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1))
        }
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        let submitted = unsafe nghttp2_submit_settings(library, flags, settings, settings.count)
        precondition(submitted == 0, "the settings are within what RFC 9113 allows")
        _ = unsafe nghttp2_session_set_local_window_size(
            library, flags, 0, configuration.connectionWindowBytes)
    }

    /// Writes the real stream limit into the first frame. A stream over the limit should be refused while the
    /// connection goes on (RFC 9113 section 5.1.2), but the library ends the connection. So the library is given
    /// twice the limit, and this corrects the frame in which it announces that. The session's user refuses the
    /// streams in between. A peer that goes even further may lose its connection.
    private func announceStreamLimit(_ frame: inout ByteBuffer, at index: Int) {
        frame.setInteger(configuration.concurrentStreamsMax, at: index + 9 + 2)
    }

    // MARK: Bytes in, bytes out

    /// Takes bytes from the peer. The events that they cause are kept for `forEachEvent`.
    ///
    /// A peer that breaks the protocol gets a GOAWAY, which `send` returns; `isFinished` is true after that. It
    /// throws when the connection should be closed at once.
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
            // Each stream has its own window for flow control, so the connection's window is refilled at once.
            _ = unsafe nghttp2_session_consume_connection(library, connectionBytesReceived)
            connectionBytesReceived = 0
        }
        if result < 0 { throw HTTP2Error(libraryCode: result) }
    }

    /// Hands out every recorded event in order, including those that `body` causes.
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

    /// Appends output to `buffer` until it holds `limit` bytes or no output is left. Returns whether output may
    /// be left. It may cause the events `closed` and `drained`.
    package func send(into buffer: inout ByteBuffer, limit: Int) throws(HTTP2Error) -> Bool {
        while buffer.readableBytes < limit {
            var data = unsafe UnsafePointer<UInt8>?.none
            let count = unsafe nghttp2_session_mem_send(library, &data)
            if count == 0 { return false }
            if count < 0 { throw HTTP2Error(libraryCode: count) }
            // The bytes belong to the library and are valid until the next call to it.
            let index = buffer.writerIndex
            unsafe buffer.writeBytes(UnsafeRawBufferPointer(start: data, count: count))
            if role == .server, !hasSent { announceStreamLimit(&buffer, at: index) }
            hasSent = true
        }
        return true
    }

    /// Whether neither side has anything more to send. The connection is to be closed then.
    package var isFinished: Bool {
        unsafe nghttp2_session_want_read(library) == 0 && nghttp2_session_want_write(library) == 0
    }

    // MARK: Streams

    /// The streams that are not closed, in no order.
    package var streams: [Stream] {
        slots.compactMap { $0 }
    }

    /// Copies a header list into memory to which the library can refer for the session's life.
    package func prepare(_ fields: HeaderFields) -> PreparedHeaders {
        prepared.append(PreparedBox(fields.prepared()))
        return PreparedHeaders(index: prepared.count - 1)
    }

    /// Opens a stream with a request (client). Its body is written by `write` until `finish`.
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

    /// Begins the response on a stream (server). With `endStream` it is the whole response.
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

    /// Queues a part of the body: the prefix, then the buffer, whose memory is kept until it has been sent.
    package func write(_ prefix: Stream.Prefix, _ buffer: ByteBuffer, to stream: Stream) {
        guard !stream.isClosed, !stream.isFinished else { return }
        queuedBytes += stream.append(prefix: prefix, buffer)
        resume(stream)
    }

    /// Ends this side of the stream after the queued bytes, with trailers if there are any.
    package func finish(_ stream: Stream, trailers: OutboundHeaders?) {
        guard !stream.isClosed, !stream.isFinished else { return }
        stream.isFinished = true
        stream.trailers = trailers
        resume(stream)
    }

    /// Resets the stream with NO_ERROR once our side has ended, unless the peer has ended its side. This tells
    /// the peer that the rest of its request is not needed (RFC 9113 section 8.1). Call it before `finish`.
    package func resetAfterEnd(_ stream: Stream) {
        stream.resetsAfterEnd = !stream.isRemoteClosed
    }

    package func reset(_ stream: Stream, _ code: ErrorCode) {
        guard !stream.isClosed else { return }
        queuedBytes -= stream.dropQueued()
        unsafe nghttp2_submit_rst_stream(
            library, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code.rawValue)
    }

    /// Returns `bytes` of the stream's flow-control window to the peer.
    package func consume(_ bytes: Int, of stream: Stream) {
        guard bytes > 0, !stream.isClosed, !stream.isRemoteClosed else { return }
        _ = unsafe nghttp2_session_consume_stream(library, stream.id, bytes)
    }

    /// Whether the peer's flow-control window of this stream is exhausted, so the stream waits for the peer and not
    /// for other streams or the socket.
    package func isHeldByPeer(_ stream: Stream) -> Bool {
        guard !stream.isClosed else { return false }
        return unsafe nghttp2_session_get_stream_remote_window_size(library, stream.id) <= 0
    }

    /// Whether the peer's flow-control window of the connection is exhausted.
    package var isHeldByPeer: Bool {
        unsafe nghttp2_session_get_remote_window_size(library) <= 0
    }

    /// Asks for one `Event.drained` when at most `mark` bytes are queued on the stream.
    package func notifyWhenDrained(_ stream: Stream, to mark: Int) {
        stream.drainMark = UInt32(clamping: mark)
    }

    private func resume(_ stream: Stream) {
        guard stream.isDeferred else { return }
        stream.isDeferred = false
        unsafe nghttp2_session_resume_data(library, stream.id)
    }

    // MARK: The connection

    /// Queues a PING with eight opaque bytes. The reply is `Event.pingAcknowledged`.
    package func ping(_ opaque: UInt64) {
        unsafe withUnsafeBytes(of: opaque.bigEndian) { bytes in
            let data = unsafe bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            _ = unsafe nghttp2_submit_ping(library, UInt8(NGHTTP2_FLAG_NONE.rawValue), data)
        }
    }

    /// Queues a GOAWAY with the last stream 2^31 - 1: the peer is asked to open no more streams, but new ones are
    /// still served.
    package func announceShutdown() {
        _ = unsafe nghttp2_submit_shutdown_notice(library)
    }

    /// Queues a GOAWAY with the last stream that was processed. Later streams are ignored; the others go on.
    package func refuseNewStreams() {
        let last = unsafe nghttp2_session_get_last_proc_stream_id(library)
        _ = unsafe nghttp2_submit_goaway(
            library, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, ErrorCode.noError.rawValue, nil, 0)
    }

    /// Queues a GOAWAY with an error. No more input is read, and the session is finished once it has been sent.
    package func terminate(_ code: ErrorCode) {
        _ = unsafe nghttp2_session_terminate_session(library, code.rawValue)
    }

    /// Queues a GOAWAY with an error and its reason. After this, `receive` must not be called, and the connection
    /// is to be closed once the frame has been sent, without waiting for streams.
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

    /// Forgets a stream that the library has closed.
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
        // The library keeps these bytes elsewhere, so they are copied.
        let copy = unsafe ByteBuffer(bytes: UnsafeBufferPointer(start: data, count: count))
        events.append(.data(stream, copy))
    }

    /// The received list. It shares the memory of the previous list if it is the same.
    func finishedHeaders() -> HeaderBlock {
        if !headers.isEqual(to: lastHeaders) { lastHeaders = headers.block() }
        return lastHeaders
    }
}
