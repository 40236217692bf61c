internal import CNGHTTP2
import NIOCore

/// The callbacks for the library. Each finds its session and calls one method, which records what happened. They
/// must not call `receive` or `send`.
extension Session {
    static func setCallbacks(_ callbacks: OpaquePointer?) {
        unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, user in
            unsafe Session.of(user).didBeginHeaders(frame)
        }
        unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks) {
            _, _, name, nameCount, value, valueCount, _, user in
            let isAccepted = unsafe Session.of(user).headers.append(
                name: UnsafeRawBufferPointer(start: name, count: nameCount),
                value: UnsafeRawBufferPointer(start: value, count: valueCount))
            // This ends the session: a few bytes that decode to very many are an attack, not a mistake.
            return isAccepted ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
        }
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
            unsafe Session.of(user).didReceiveFrame(frame)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks) { _, _, _, user in
            unsafe Session.of(user).invalidFramesReceived += 1
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
            _, _, id, data, count, user in
            unsafe Session.of(user).didReceiveData(id, data, count)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, user in
            let session = unsafe Session.of(user)
            if let stream = session.stream(id) { session.didClose(stream, ErrorCode(rawValue: code)) }
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { session, frame, user in
            unsafe Session.of(user).didSendFrame(frame, session)
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks) { _, frame, _, user in
            unsafe Session.of(user).didNotSendFrame(frame)
            return 0
        }
    }

    private static func of(_ user: UnsafeMutableRawPointer?) -> Session {
        // The pointer is set right after the library's session is made, before anything is received or sent.
        unsafe Unmanaged<Session>.fromOpaque(user.unsafelyUnwrapped).takeUnretainedValue()
    }

    private func didBeginHeaders(_ frame: UnsafePointer<nghttp2_frame>?) -> CInt {
        guard let frame = unsafe frame else { return 0 }
        headers.removeAll()
        headersBegun += 1
        if unsafe role == .server && frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
            register(Stream(id: unsafe frame.pointee.hd.stream_id))
        }
        return 0
    }

    private func didReceiveFrame(_ frame: UnsafePointer<nghttp2_frame>?) {
        guard let frame = unsafe frame else { return }
        let header = unsafe frame.pointee.hd
        let isEnd = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let isAcknowledgement = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch UInt32(header.type) {
        case NGHTTP2_DATA.rawValue:
            guard isEnd, let stream = stream(header.stream_id) else { return }
            stream.isRemoteClosed = true
            events.append(.endStream(stream))
        case NGHTTP2_HEADERS.rawValue:
            guard let stream = stream(header.stream_id) else { return }
            if isEnd { stream.isRemoteClosed = true }
            events.append(.headers(stream, finishedHeaders(), endStream: isEnd))
        case NGHTTP2_SETTINGS.rawValue:
            if !isAcknowledgement { streamsResettled += openStreams }
            events.append(isAcknowledgement ? .settingsAcknowledged : .settings)
        case NGHTTP2_PING.rawValue:
            guard isAcknowledgement else { return events.append(.ping) }
            var opaque: UInt64 = 0
            unsafe withUnsafeMutableBytes(of: &opaque) { target in
                unsafe withUnsafeBytes(of: frame.pointee.ping.opaque_data) {
                    unsafe target.copyMemory(from: $0)
                }
            }
            events.append(.pingAcknowledged(UInt64(bigEndian: opaque)))
        case NGHTTP2_GOAWAY.rawValue:
            let goAway = unsafe frame.pointee.goaway
            unsafe events.append(
                .goAway(lastStreamID: goAway.last_stream_id, ErrorCode(rawValue: goAway.error_code)))
        default:
            break
        }
    }

    private func didReceiveData(_ id: Int32, _ data: UnsafePointer<UInt8>?, _ count: Int) {
        guard let data = unsafe data, let stream = stream(id) else { return }
        unsafe receivedData(data, count: count, on: stream)
    }

    private func didClose(_ stream: Stream, _ code: ErrorCode) {
        guard !stream.isClosed else { return }
        stream.isClosed = true
        release(stream)
        queuedBytes -= stream.dropQueued()
        events.append(.closed(stream, code))
    }

    private func didSendFrame(_ frame: UnsafePointer<nghttp2_frame>?, _ session: OpaquePointer?) {
        guard let header = unsafe frame?.pointee.hd else { return }
        switch UInt32(header.type) {
        case NGHTTP2_DATA.rawValue, NGHTTP2_HEADERS.rawValue:
            messageFramesSent += 1
        case NGHTTP2_RST_STREAM.rawValue:
            let code = unsafe ErrorCode(rawValue: frame?.pointee.rst_stream.error_code ?? 0)
            if !Self.resetsWithoutFault.contains(code) { resetsForFaults += 1 }
            return
        default:
            return
        }
        guard header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0,
            let stream = stream(header.stream_id), stream.resetsAfterEnd, !stream.isRemoteClosed
        else { return }
        unsafe nghttp2_submit_rst_stream(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), header.stream_id, ErrorCode.noError.rawValue)
    }

    /// The codes of resets that are not the peer's fault: after a complete response, or because the session's
    /// user asked for it.
    private static let resetsWithoutFault: [ErrorCode] = [.noError, .cancel, .enhanceYourCalm]

    private func didNotSendFrame(_ frame: UnsafePointer<nghttp2_frame>?) {
        guard role == .client, let header = unsafe frame?.pointee.hd,
            header.type == UInt8(NGHTTP2_HEADERS.rawValue)
        else { return }
        // A request that was still queued when the server sent GOAWAY. The library never opened its stream, so it
        // does not close it either.
        if let stream = streams.first(where: { $0.id == header.stream_id }) {
            didClose(stream, .refusedStream)
        }
    }

    // MARK: DATA to send

    static func dataProvider(for stream: Stream) -> nghttp2_data_provider {
        // The session keeps the stream alive until the library has closed it, and the library asks for no data
        // after that.
        let pointer = unsafe Unmanaged.passUnretained(stream).toOpaque()
        return unsafe nghttp2_data_provider(source: nghttp2_data_source(ptr: pointer)) {
            _, _, target, count, flags, source, user in
            guard let target = unsafe target, let flags = unsafe flags,
                let source = unsafe source?.pointee.ptr
            else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
            let stream = unsafe Unmanaged<Stream>.fromOpaque(source).takeUnretainedValue()
            return unsafe Session.of(user).readData(
                of: stream, into: UnsafeMutableRawBufferPointer(start: target, count: count), &flags.pointee)
        }
    }

    private func readData(
        of stream: Stream, into target: UnsafeMutableRawBufferPointer, _ flags: inout UInt32
    ) -> Int {
        let count = unsafe stream.moveQueued(into: target)
        queuedBytes -= count
        bodyBytesSent += count
        if let mark = stream.drainMark, stream.queuedBytes <= mark {
            stream.drainMark = nil
            events.append(.drained(stream))
        }
        guard stream.queuedBytes == 0 else { return count }
        if stream.isFinished {
            flags |= NGHTTP2_DATA_FLAG_EOF.rawValue
            if let trailers = stream.trailers {
                flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
                let result = submitTrailers(trailers, on: stream)
                if result < 0 { return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
            }
        } else if count == 0 {
            stream.isDeferred = true
            return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        }
        return count
    }
}
