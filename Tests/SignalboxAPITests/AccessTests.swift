import Authentication
import JobModel
import JobService
import Logging
import GRPC
import SignalboxProto
import Testing

@testable import SignalboxAPI

@Suite struct AccessTests {
    private func status(_ control: AccessControl, _ path: String, authorization: String? = nil) -> Status
        .Code?
    {
        let peer = Peer(address: "127.0.0.1:1", source: "127.0.0.1", certificate: nil)
        switch control.admit(AdmissionRequest(path: path, authorization: authorization, peer: peer)) {
        case .admitted: return .ok
        case .refused(let refusal): return refusal.status.code
        case .later: return nil
        }
    }

    private func admitted(_ control: AccessControl, _ path: String) -> (any Admitted)? {
        let peer = Peer(address: "127.0.0.1:1", source: "127.0.0.1", certificate: nil)
        let answer = control.admit(AdmissionRequest(path: path, authorization: nil, peer: peer))
        if case .admitted(let somebody) = answer { return somebody }
        return nil
    }

    private func withCredentials() throws -> AccessControl {
        var configuration = AuthenticationConfiguration()
        configuration.certificates = [
            CertificateRule(pattern: try #require(.init("dns:a")), scopes: [.admin], users: .all)
        ]
        return AccessControl(
            try Authenticator(configuration, logger: Logger(label: "test"), fetch: { _ in [] }))
    }

    /// What such calls hold is bounded. Where nobody is asked, every call is as good as any.
    @Test func onlyCallsThatNeedNoCredentialsAreAnonymous() throws {
        let check = "/grpc.health.v1.Health/Check"
        #expect(admitted(try withCredentials(), check)?.isAnonymous == true)
        for path in AccessRules.byPath.keys {
            #expect(admitted(AccessControl(nil), path)?.isAnonymous == false)
        }
    }

    @Test func aRefusalSaysItsReason() throws {
        let path = "/signalbox.v1.JobService/GetJob"
        let peer = Peer(address: "127.0.0.1:1", source: "127.0.0.1", certificate: nil)
        for (authorization, reason) in [
            (nil, "missingCredentials"), ("x", "malformedHeader"), ("Bearer sbx_x", "unknownToken"),
        ] {
            let request = AdmissionRequest(path: path, authorization: authorization, peer: peer)
            guard case .refused(let refusal) = try withCredentials().admit(request) else {
                Issue.record("not refused: \(authorization ?? "nothing")")
                continue
            }
            #expect(refusal.reason == reason)
        }
    }

    @Test func aMethodWithoutARuleIsOpenToNoCaller() {
        #expect(status(AccessControl(nil), "/signalbox.v1.JobService/New") == .permissionDenied)
    }

    /// Every method of the protos has a handler and an access rule, and there is no handler or rule without a method.
    @Test func everyMethodHasAHandlerAndARule() async throws {
        try await APIBench.with { bench in
            let paths = bench.paths + StandardHandlers(health: HealthState()).methods.map(\.path)
            #expect(paths.sorted() == everyMethodPath.sorted())
            #expect(AccessRules.byPath.keys.sorted() == everyMethodPath.sorted())
        }
    }

    /// What the database, or a library, says of an error is for the log.
    @Test func noStatusHasAForeignText() {
        struct Foreign: Error, CustomStringConvertible {
            let description = "/srv/secret host.example:5432"
        }
        let secret = Foreign().description
        let errors: [any Error] = [
            Foreign(), ServiceError.unavailable(secret), ServiceError.broken(secret),
        ]
        for error in errors {
            let status = StatusMapping.status(for: error)
            let shown = status.message + String(decoding: status.details, as: UTF8.self)
            #expect(!shown.contains("secret") && !shown.contains("host.example"))
        }
    }

    @Test func withoutAnAuthenticatorEverybodyMayCall() {
        for path in AccessRules.byPath.keys { #expect(status(AccessControl(nil), path) == .ok) }
    }

    @Test func withOneOnlyProbesNeedNoCredentials() throws {
        let control = try withCredentials()
        for (path, rule) in AccessRules.byPath {
            #expect(status(control, path) == (rule == .nothing ? .ok : .unauthenticated))
            #expect(
                status(control, path, authorization: "Bearer x")
                    == (rule == .nothing ? .ok : .unauthenticated))
        }
    }
}
