package import Authentication
import FoundationEssentials
import GRPC

extension ServerSettings {
    /// The accepted credentials.
    package var authentication: AuthenticationConfiguration {
        var configuration = AuthenticationConfiguration()
        configuration.tokenFile = self.authTokens
        if let keys = self.authJWKS, let issuer = self.authJWTIssuer, let audience = self.authJWTAudience {
            var jwt = JWTConfiguration(keys: keys, issuer: issuer, audience: audience)
            jwt.leeway = self.authJWTLeeway
            jwt.usersClaim = self.authJWTUsersClaim
            jwt.tokenType = self.authJWTType
            configuration.jwt = jwt
        }
        configuration.certificates = certificates
        return configuration
    }

    /// Whether calls need credentials.
    package var authenticates: Bool {
        self.authTokens != nil || self.authJWKS != nil || !certificates.isEmpty
    }

    /// Whether the keys come from another machine without TLS, where a machine between can replace them.
    package var fetchesKeysInTheClear: Bool {
        guard case .address(let url) = self.authJWKS else { return false }
        let address = url.absoluteString
        guard address.lowercased().hasPrefix("http://") else { return false }
        let authority = address.dropFirst("http://".count).prefix { $0 != "/" && $0 != "?" }
        let host = HostPort(String(authority)) ?? HostPort("\(authority):80")
        return host?.isLoopback != true
    }
}
