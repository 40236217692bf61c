import JobModel
import SignalboxProto
import NIOCore
import Testing

/// The same messages as another implementation writes them: byte for byte what Python's protobuf makes of
/// `Samples` (capture.py prints this hex).
@Suite struct PythonBytesTests {
    private static let enqueueRequest = """
        0ab5010a0b7370656563682f6d616b65120375c3a91a056e6967687422077b2261223a317d2a106170706c6963617469
        6f6e2f6a736f6e322430313939616161612d626262622d376363632d386464642d6565656566666666303030313a026b
        3140f9ffffffffffffffff014a0b0880e2cfaa06108094ef3a580562200a0808011080cab5ee01110000000000000840
        1a02083c21000000000000d03f6a02085a72051080e59a777a060a01611201317a060a0162120132
        """

    private static let getJobResponse = """
        0a85030a2430313939616161612d626262622d376363632d386464642d656565656666666630303031120b7370656563
        682f6d616b651a0375c3a922056e6967687428f9ffffffffffffffff0130043806420b0880e2cfaa06108094ef3a4a06
        08bce2cfaa06520608bde2cfaa065a1108ffffffffffffffffff011080afd0e5026002680272060a016112013172060a
        01621201327a026b318001018a01200a036d697811000000000000e03f1a0468616c6620012802320608bee2cfaa0692
        011e0a0200ff12186170706c69636174696f6e2f6f637465742d73747265616d9a010c1208746f6f20736c6f771803a2
        01106170706c69636174696f6e2f6a736f6eaa011b0a0208051100000000000000401a0308901c210000000000000000
        b20102085aba01020850c20124080112026e311a060881e2cfaa0622060882e2cfaa06280532081204676f6e65180440
        01c20112080212026e321a0608bde2cfaa0628044001ca0112080112060881e2cfaa06180120032a02686dd201077b22
        61223a317de00301
        """

    private func bytes(_ hex: String) -> [UInt8] {
        let digits = hex.utf8.filter { $0 != UInt8(ascii: "\n") }
        return stride(from: 0, to: digits.count, by: 2).compactMap {
            UInt8(String(decoding: digits[$0..<($0 + 2)], as: UTF8.self), radix: 16)
        }
    }

    @Test func jobSpec() throws {
        let python = bytes(Self.enqueueRequest)
        let decoded = try EnqueueRequest.clean(ByteBuffer(bytes: python))
        #expect(decoded.job?.described == Samples.draft.described)
        #expect(Array(EnqueueRequest(job: Samples.draft).encode().readableBytesView) == python)
    }

    @Test func job() throws {
        let python = bytes(Self.getJobResponse)
        let response = GetJobResponse(job: Samples.record, includePayload: true)
        #expect(try GetJobResponse.decode(ByteBuffer(bytes: python)) == response)
        #expect(Array(response.encode().readableBytesView) == python)
    }
}
