import Authentication
import JobCore
import Logging
import RPC
import Testing

@testable import JobAPI

@Suite struct AccessTests {
    private func status(_ control: AccessControl, _ path: String, authorization: String? = nil) -> Status
        .Code?
    {
        let peer = Peer(address: "127.0.0.1:1", certificate: nil)
        switch control.admit(AdmissionRequest(path: path, authorization: authorization, peer: peer)) {
        case .admitted: return .ok
        case .refused(let refusal): return refusal.status.code
        case .later: return nil
        }
    }

    @Test func aMethodWithoutARuleIsNobodys() {
        #expect(status(AccessControl(nil), "/signalbox.v1.JobService/New") == .permissionDenied)
    }

    /// A method that is added without one could be called by nobody, and a rule without a method is left over.
    @Test func everyMethodHasARule() async throws {
        try await APIBench.with { bench in
            let paths = bench.paths + StandardHandlers(health: HealthState()).methods.map(\.path)
            #expect(paths.sorted() == AccessRules.byPath.keys.sorted())
        }
    }

    @Test func withoutAnAuthenticatorEverybodyMayCall() {
        for path in AccessRules.byPath.keys { #expect(status(AccessControl(nil), path) == .ok) }
    }

    @Test func withOneOnlyProbesNeedNoCredentials() throws {
        var configuration = AuthenticationConfiguration()
        configuration.certificates = [
            CertificateRule(pattern: try #require(.init("dns:a")), scopes: [.admin], users: .all)
        ]
        let control = AccessControl(
            try Authenticator(configuration, logger: Logger(label: "test"), fetch: { _ in [] }))
        for (path, rule) in AccessRules.byPath {
            #expect(status(control, path) == (rule == .nothing ? .ok : .unauthenticated))
            #expect(
                status(control, path, authorization: "Bearer x")
                    == (rule == .nothing ? .ok : .unauthenticated))
        }
    }
}
