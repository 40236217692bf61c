package import Authentication
import JobModel
import JobService
package import GRPC
import Synchronization

/// Admits calls by the credentials of their callers and by the rules of the methods. Without an authenticator, every
/// caller may call every method that a rule lists.
package final class AccessControl: Admission {
    private let authenticator: Authenticator?
    /// A cache: reading a certificate takes longer than the rest of a call.
    private let certificates = Mutex<[[UInt8]: PeerCertificate]>([:])
    private static let certificatesMax = 1_000

    /// - Parameter authenticator: nil: no credentials are required.
    package init(_ authenticator: Authenticator?) {
        self.authenticator = authenticator
    }

    package var callersMayEnd: Bool { authenticator != nil }

    package func admit(_ request: AdmissionRequest) -> AdmissionAnswer {
        guard let rule = AccessRules.byPath[request.path] else {
            return .refused(Self.refusal(.methodNotAllowed))
        }
        guard let authenticator, rule != .nothing else {
            // Without authentication every caller counts as admitted: a bound on health checks alone would be no bound.
            return .admitted(
                AdmittedCaller(
                    Caller(name: "", source: .anonymous, address: request.peer.address, users: .all),
                    isAnonymous: authenticator != nil))
        }
        let certificate: PeerCertificate?
        do {
            certificate = try self.certificate(request, authenticator)
        } catch {
            return .refused(Self.refusal(for: error))
        }
        switch authenticator.attempt(authorization: request.authorization, certificate: certificate) {
        case .principal(let credential):
            do {
                return .admitted(try Self.admitted(credential, rule, request))
            } catch {
                return .refused(error)
            }
        case .refused(let error):
            return .refused(Self.refusal(for: error))
        case .pending:
            return .later {
                let credential: Credential
                do throws(AuthenticationError) {
                    credential = try await authenticator.authenticate(
                        authorization: request.authorization, certificate: certificate,
                        source: request.peer.source)
                } catch {
                    throw Self.refusal(for: error)
                }
                return try Self.admitted(credential, rule, request)
            }
        }
    }

    /// The certificate of a client that needs none is not read.
    private func certificate(
        _ request: AdmissionRequest, _ authenticator: Authenticator
    ) throws(AuthenticationError) -> PeerCertificate? {
        guard authenticator.usesCertificates, request.authorization == nil, let der = request.peer.certificate
        else { return nil }
        if let known = certificates.withLock({ $0[der] }) { return known }
        let certificate = try PeerCertificate(der: der)
        certificates.withLock { known in
            if known.count >= Self.certificatesMax { known.removeAll(keepingCapacity: true) }
            known[der] = certificate
        }
        return certificate
    }

    private static func admitted(
        _ credential: Credential, _ rule: AccessRule, _ request: AdmissionRequest
    ) throws(AdmissionRefusal) -> AdmittedCaller {
        let principal = credential.principal
        if case .scope(let scope) = rule, !principal.scopes.contains(scope) {
            throw refusal(.scopeMissing(scope), caller: principal.name)
        }
        let caller = Caller(
            name: principal.name, source: principal.source.ofCaller, address: request.peer.address,
            users: principal.users, scopes: principal.scopes)
        return AdmittedCaller(caller) { credential.isValid(now: .now) }
    }

    private static func refusal(_ denial: AccessDenial, caller: String = "") -> AdmissionRefusal {
        AdmissionRefusal(StatusMapping.status(for: denial), reason: "permissionDenied", caller: caller)
    }

    static func refusal(for error: AuthenticationError) -> AdmissionRefusal {
        AdmissionRefusal(StatusMapping.status(for: error), reason: error.code.rawValue)
    }
}

/// The reason for which an authenticated caller may not make a call.
enum AccessDenial: Error {
    case methodNotAllowed
    case scopeMissing(Scope)
}
