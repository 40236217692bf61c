/// The limits of one HTTP/2 connection.
package struct SessionConfiguration: Sendable {
    /// The most streams that the peer may have open at once (SETTINGS_MAX_CONCURRENT_STREAMS), at most 2^30. A
    /// server's user is given up to twice as many, and refuses those over the limit.
    package var concurrentStreamsMax: UInt32 = 1_000
    /// The bytes of DATA that the peer may send on one stream before this side consumes them.
    package var streamWindowBytes: Int32 = 256 * 1024
    /// The bytes of DATA that the peer may send on all streams together before this side consumes them.
    package var connectionWindowBytes: Int32 = 1024 * 1024
    /// The size of the largest frame that the peer may send, 16,384 to 16,777,215 (SETTINGS_MAX_FRAME_SIZE).
    package var frameBytesMax: UInt32 = 16_384
    /// The size of the largest header list, counted as in RFC 9113 section 6.5.2: name + value + 32 for each
    /// field. Fields over it are dropped, and the block is marked as truncated. At most 65,535.
    package var headerListBytesMax: Int = 8 * 1024
    /// The RST_STREAM frames that the peer may send at once, and per second after that (CVE-2023-44487).
    package var resetsBurst: UInt64 = 1_000
    package var resetsPerSecond: UInt64 = 100
    /// The most CONTINUATION frames after one HEADERS frame (CVE-2024-28182).
    package var continuationsMax: Int = 8

    package init() {}
}
