internal import FoundationEssentials
package import JobModel
internal import SwiftASN1
internal import X509

/// The parts of a client's certificate that are used. TLS has already checked that a trusted authority signed
/// it and that the client has its private key.
package struct PeerCertificate: Sendable, Hashable {
    package static let namesMax = 1_000

    package var names: [SubjectAlternativeName]
    /// The end of its validity. A connection may outlive its certificate, so each call checks it.
    package var expiry: Timestamp

    package init(names: [SubjectAlternativeName], expiry: Timestamp) {
        self.names = names
        self.expiry = expiry
    }

    /// - Parameter der: the certificate of the client itself, not of its authorities.
    package init(der: [UInt8]) throws(AuthenticationError) {
        do {
            let certificate = try Certificate(derEncoded: der)
            let names = try certificate.extensions.subjectAlternativeNames ?? SubjectAlternativeNames()
            guard names.count <= Self.namesMax else { throw AuthenticationError.malformedCertificate }
            self.names = names.compactMap { name in
                switch name {
                case .dnsName(let name): .dns(name)
                case .uniformResourceIdentifier(let text): .uri(text)
                case .rfc822Name(let address): .email(address)
                // The subject's common name is not used either: RFC 6125 deprecates it.
                default: nil
                }
            }
            expiry = Timestamp(secondsSince1970: certificate.notValidAfter.timeIntervalSince1970)
        } catch {
            // The parser's error is dropped, because it may quote the certificate.
            throw .malformedCertificate
        }
    }
}

extension Timestamp {
    /// A time limited to the years 1970 to 9999, so that no number from outside overflows. Not a number
    /// becomes 1970.
    init(secondsSince1970 seconds: Double) {
        let latest = 253_402_300_799.0
        self.init(microseconds: seconds > 0 ? Int64(min(seconds, latest) * 1_000_000) : 0)
    }
}
