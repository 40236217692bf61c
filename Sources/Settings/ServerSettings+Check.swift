import GRPC
import JobEngine

extension ServerSettings {
    /// Finds problems of several settings together.
    func check(_ machine: Machine, into problems: inout [String]) {
        for command in commands where machine.isRoot && command.user == nil {
            problems.append(
                "commands: '\(command.definition.kind)' has no user, and this server runs as root: give the user to run it as "
                    + "(user: NAME), or let it be root (user: root)")
        }
        if (self.tlsCertificate == nil) != (self.tlsKey == nil) {
            problems.append("tls-certificate and tls-key are needed together")
        }
        if self.tlsClientCA != nil, self.tlsCertificate == nil {
            problems.append("tls-client-ca needs tls-certificate and tls-key")
        }
        let jwt = [self.authJWKS != nil, self.authJWTIssuer != nil, self.authJWTAudience != nil]
        if jwt.contains(true), jwt.contains(false) {
            problems.append("auth-jwks, auth-jwt-issuer and auth-jwt-audience are needed together")
        }
        if fetchesKeysInTheClear, !self.insecure {
            problems.append(
                "auth-jwks: without TLS, the keys could be replaced on the network: use https, or allow http with insecure"
            )
        }
        if !certificates.isEmpty, self.tlsClientCA == nil {
            problems.append("auth.certificates needs tls-client-ca")
        }
        guard !self.listen.isLoopback, !self.insecure else { return }
        let reached = "listen: other machines can reach \(self.listen)"
        if self.tlsCertificate == nil {
            problems.append(
                "\(reached), and there is no TLS: give a certificate with --tls-certificate FILE and --tls-key "
                    + "FILE (SIGNALBOX_TLS_CERTIFICATE, SIGNALBOX_TLS_KEY), or --insecure (SIGNALBOX_INSECURE=true) "
                    + "to send everything in the clear")
        }
        if !authenticates {
            problems.append(
                "\(reached), and calls need no credentials: give tokens with --auth-tokens FILE "
                    + "(SIGNALBOX_AUTH_TOKENS; `signalbox token create` makes them), or auth-jwks, or rules for "
                    + "client certificates in the file, or --insecure (SIGNALBOX_INSECURE=true) to require "
                    + "no credentials")
        }
    }
}
