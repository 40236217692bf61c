import Authentication
import Crypto
import CryptoExtras
import Foundation
import JobModel
import Support
import Testing

/// One key of each kind, in a file.
@Suite struct JWTAuthenticationTests {
    let clock = TestClock()
    let folder: TestFolder
    let rsa: SigningKey
    let p256 = SigningKey.p256()
    let ed25519 = SigningKey.ed25519()

    init() throws {
        folder = try TestFolder()
        rsa = try SigningKey.rsa()
    }

    private func authenticator(
        _ keys: String? = nil, adjust: (inout JWTConfiguration) -> Void = { _ in }
    ) throws -> Authenticator {
        let path = try folder.write(try keys ?? keySet([rsa, p256, ed25519]), to: "jwks.json")
        var jwt = JWTConfiguration(keys: .file(path), issuer: JWT.issuer, audience: JWT.audience)
        adjust(&jwt)
        var configuration = AuthenticationConfiguration()
        configuration.jwt = jwt
        return try Authenticator(configuration, logger: quiet, fetch: noFetch) { [clock] in clock.now }
    }

    private func refusal(_ token: String, adjust: (inout JWTConfiguration) -> Void = { _ in }) async throws
        -> AuthenticationError.Code?
    {
        try await authenticator(adjust: adjust).refusal("Bearer \(token)")
    }

    @Test func everyAlgorithm() async throws {
        let authenticator = try authenticator()
        for key in [rsa, p256, ed25519] {
            let header = "Bearer \(try key.token(JWT.claims()))"
            guard case .pending = authenticator.attempt(authorization: header, certificate: nil) else {
                Issue.record("not pending")
                return
            }
            let credential = try await authenticator.authenticate(
                authorization: header, certificate: nil, source: "")
            #expect(
                credential.principal
                    == Principal(
                        name: "ada", scopes: [.read, .enqueue], users: .only(["ada"]),
                        expiry: clock.now.advanced(by: .seconds(3600)), source: .jwt(keyID: key.id)))
            // The second time at once.
            #expect(authenticator.known(header) === credential)
        }
    }

    // MARK: which algorithm, whose key

    @Test func unsignedTokensAreRefused() async throws {
        for algorithm in ["none", "None", "NONE", "nOnE", ""] {
            for id in ["rsa", nil] {
                let header: [String: Any?] = ["alg": algorithm, "kid": id]
                let token = try JWT.make(header: header, claims: JWT.claims()) { _ in [] }
                // Without a signature it is not even likely to be a JWT.
                #expect(try await refusal(token) == .unknownToken)
                #expect(try await refusal(token + "AA") == .unsupportedAlgorithm)
                let signed = try JWT.make(header: header, claims: JWT.claims(), sign: rsa.sign)
                #expect(try await refusal(signed) == .unsupportedAlgorithm)
            }
        }
    }

    /// The public key, in each form that somebody may have it in, as the secret of an HMAC.
    @Test func aPublicKeyIsNoSharedSecret() async throws {
        guard case .rsa(let secret) = rsa.secret else {
            Issue.record("no RSA key")
            return
        }
        let pem = secret.publicKey.pemRepresentation
        let primitives = try secret.publicKey.getKeyPrimitives()
        for key in [
            Data(pem.utf8), Data((pem + "\n").utf8), secret.publicKey.derRepresentation, primitives.modulus,
            Data(base64URL(primitives.modulus).utf8), try JWT.json(rsa.jwk()),
        ] {
            for algorithm in ["HS256", "hs256", "HS384", "HS512", "RS256"] {
                let token = try JWT.make(header: ["alg": algorithm, "kid": "rsa"], claims: JWT.claims()) {
                    bytes in
                    Array(HMAC<SHA256>.authenticationCode(for: bytes, using: SymmetricKey(data: key)))
                }
                let expected: AuthenticationError.Code =
                    algorithm == "RS256" ? .badSignature : .unsupportedAlgorithm
                #expect(try await refusal(token) == expected)
            }
        }
    }

    @Test func theAlgorithmIsTheKeys() async throws {
        let keys = [rsa, p256, ed25519]
        for signer in keys {
            for other in keys where other.id != signer.id {
                // Signed with one key, under the name of another.
                #expect(
                    try await refusal(signer.token(JWT.claims(), header: ["kid": other.id]))
                        == .unsupportedAlgorithm)
                // That says the algorithm of the other one as well.
                let header: [String: Any?] = ["kid": other.id, "alg": other.algorithm]
                #expect(try await refusal(signer.token(JWT.claims(), header: header)) == .badSignature)
                // That only says so.
                #expect(
                    try await refusal(signer.token(JWT.claims(), header: ["alg": other.algorithm]))
                        == .unsupportedAlgorithm)
            }
        }
    }

    @Test(arguments: [
        "rs256", "Rs256", "RS256 ", "RS384", "RS512", "PS256", "ES256K", "ES384", "Ed25519", "eddsa", "EDDSA",
    ])
    func otherAlgorithms(_ name: String) async throws {
        for key in [rsa, p256, ed25519] {
            #expect(
                try await refusal(key.token(JWT.claims(), header: ["alg": name])) == .unsupportedAlgorithm)
        }
    }

    @Test func aStrangersSignature() async throws {
        for stranger in [SigningKey.p256("p256"), SigningKey.ed25519("ed")] {
            #expect(try await refusal(stranger.token(JWT.claims())) == .badSignature)
            // The key that is sent along is not read.
            for header: [String: Any?] in [
                ["jwk": try stranger.jwk()], ["jku": "https://evil.example/jwks.json"],
                ["x5u": "https://evil.example/"],
                ["x5c": ["MIIB"]],
            ] {
                #expect(try await refusal(stranger.token(JWT.claims(), header: header)) == .badSignature)
            }
            #expect(try await refusal(stranger.token(JWT.claims(), header: ["kid": "other"])) == .unknownKey)
        }
    }

    @Test func anyChangeOfATokenIsFound() async throws {
        let authenticator = try authenticator()
        for key in [rsa, p256, ed25519] {
            let token = try key.token(JWT.claims())
            let parts = token.split(separator: ".").map(String.init)
            let signature = try key.sign(Array("\(parts[0]).\(parts[1])".utf8))
            let other = try key.token(JWT.claims(["sub": "eve"])).split(separator: ".").map(String.init)
            for (header, claims, signature) in [
                (parts[0], other[1], parts[2]), (parts[0], parts[1], other[2]),
                (parts[0], parts[1], base64URL([UInt8](repeating: 0, count: 64))),
                (parts[0], parts[1], base64URL([UInt8](repeating: 0, count: 256))),
                (parts[0], parts[1], "AA"),
                (parts[0], parts[1], base64URL(signature.dropLast())),
                (parts[0], parts[1], base64URL(signature + [0])),
                (parts[0], parts[1], base64URL(signature.dropFirst())),
                (parts[0], parts[1], base64URL([0] + signature)),
            ] {
                #expect(
                    await authenticator.refusal("Bearer \(header).\(claims).\(signature)") == .badSignature)
            }
            #expect(await authenticator.refusal("Bearer \(token)") == nil)
        }
    }

    @Test func keyIDs() async throws {
        #expect(try await refusal(p256.token(JWT.claims(), header: ["kid": nil])) == .malformedToken)
        #expect(try await refusal(p256.token(JWT.claims(), header: ["kid": "P256"])) == .unknownKey)
        #expect(try await refusal(p256.token(JWT.claims(), header: ["kid": ""])) == .unknownKey)
        #expect(try await refusal(p256.token(JWT.claims(), header: ["kid": 1])) == .malformedToken)

        // The only key needs no name, with an id or without one.
        for key in [SigningKey.p256("only"), SigningKey.p256(nil)] {
            let authenticator = try authenticator(keySet([key]))
            #expect(
                await authenticator.refusal("Bearer \(try key.token(JWT.claims(), header: ["kid": nil]))")
                    == nil)
            #expect(
                await authenticator.refusal("Bearer \(try key.token(JWT.claims(), header: ["kid": "other"]))")
                    == .unknownKey)
        }
    }

    // MARK: which type

    /// RFC 8725, section 3.11; RFC 9068, section 4; RFC 7515, section 4.1.9.
    @Test func types() async throws {
        let types: [(Any?, AuthenticationError.Code?)] = [
            (nil, nil), (NSNull(), nil), ("JWT", nil), ("jwt", nil), ("Jwt", nil), ("at+jwt", nil),
            ("AT+JWT", nil), ("application/at+jwt", nil), ("application/jwt", nil),
            ("Application/At+Jwt", nil), ("logout+jwt", .unsupportedType),
            ("secevent+jwt", .unsupportedType), ("dpop+jwt", .unsupportedType), ("", .unsupportedType),
            ("application/", .unsupportedType), ("application/application/jwt", .unsupportedType),
            ("JWT ", .unsupportedType), ("xjwt", .unsupportedType), ("JOSE", .unsupportedType),
            // Of these Swift's own lower case would be a k.
            ("at+\u{212A}wt", .unsupportedType), ("jwt\u{301}", .unsupportedType),
            (String(repeating: "a", count: 2000), .unsupportedType), (1, .malformedToken),
            (["JWT"], .malformedToken),
        ]
        for (type, code) in types {
            for key in [rsa, p256, ed25519] {
                let found = try await refusal(key.token(JWT.claims(), header: ["typ": type]))
                #expect(found == code, "\(String(describing: type))")
            }
        }
    }

    @Test func onlyAccessTokensWhereTheyAreWanted() async throws {
        let types: [(String?, AuthenticationError.Code?)] = [
            ("at+jwt", nil), ("Application/AT+JWT", nil), ("JWT", .unsupportedType), (nil, .unsupportedType),
            ("logout+jwt", .unsupportedType),
        ]
        for (type, code) in types {
            let token = try p256.token(JWT.claims(), header: ["typ": type])
            let found = try await refusal(token) { $0.tokenType = .accessToken }
            #expect(found == code, "\(type ?? "nil")")
        }
    }

    // MARK: what is no token

    @Test func malformedTokens() async throws {
        let token = try p256.token(JWT.claims())
        let parts = token.split(separator: ".").map(String.init)
        let authenticator = try authenticator()
        let signature = parts[2]
        func b(_ text: String) -> String { base64URL(Array(text.utf8)) }
        for (token, code): (String, AuthenticationError.Code) in [
            (parts[0] + "." + parts[1], .unknownToken), (token + "." + signature, .unknownToken),
            (token + "..", .unknownToken), ("." + parts[1] + "." + signature, .unknownToken),
            (parts[0] + ".." + signature, .unknownToken), (parts[0] + "." + parts[1] + ".", .unknownToken),
            (token + "=", .malformedToken), (parts[0] + "=." + parts[1] + "." + signature, .malformedToken),
            (parts[0] + "." + parts[1] + "/." + signature, .malformedToken),
            (b("{}") + "." + parts[1] + "." + signature, .malformedToken),
            (b("[]") + "." + parts[1] + "." + signature, .malformedToken),
            (b("no JSON") + "." + parts[1] + "." + signature, .malformedToken),
            (b(#"{"alg":1}"#) + "." + parts[1] + "." + signature, .malformedToken),
            (b(#"{"alg":["ES256"],"kid":"p256"}"#) + "." + parts[1] + "." + signature, .malformedToken),
            (b(#"{"alg":"ES256","kid":"p256","n":1e400}"#) + "." + parts[1] + "." + signature, .badSignature),
            (b(#"{"alg":"ES256","kid":"p256","n":1e300}"#) + "." + parts[1] + "." + signature, .badSignature),
            (b(#"{"alg":"ES256","kid":{}}"#) + "." + parts[1] + "." + signature, .malformedToken),
        ] {
            #expect(await authenticator.refusal("Bearer \(token)") == code, "\(token)")
        }
        let nested = String(repeating: "[", count: 3000) + String(repeating: "]", count: 3000)
        let deep = b(#"{"alg":"ES256","kid":"p256","x":"# + nested + "}")
        #expect(await authenticator.refusal("Bearer \(deep).e30.AAAA") == .malformedToken)
    }

    /// RFC 7515, section 4.1.11.
    @Test func criticalExtensionsAreRefused() async throws {
        for crit: Any in [["b64"], ["exp"], [String](), "x", NSNull()] {
            #expect(
                try await refusal(p256.token(JWT.claims(), header: ["crit": crit, "b64": true]))
                    == .malformedToken)
        }
    }

    /// It is decoded before anybody knows who has sent it.
    @Test func theHeaderIsShort() async throws {
        let authenticator = try authenticator()
        func refusal(_ padding: Int) async throws -> AuthenticationError.Code? {
            let header = ["x": String(repeating: "x", count: padding)]
            return await authenticator.refusal("Bearer \(try p256.token(JWT.claims(), header: header))")
        }
        let length = try JWT.json(["alg": "ES256", "kid": "p256", "typ": "JWT", "x": ""]).count
        #expect(try await refusal(4096 - length) == nil)
        #expect(try await refusal(4097 - length) == .malformedToken)
    }

    /// No key of ours has such a name, and all marks of a text are put in order when it is compared in normal form.
    @Test func longKeyIDs() async throws {
        let id = String(repeating: "\u{301}\u{323}", count: 257)
        #expect(try await refusal(p256.token(JWT.claims(), header: ["kid": id])) == .unknownKey)
    }

    @Test func size() async throws {
        let authenticator = try authenticator()
        func token(_ padding: Int) throws -> String {
            try ed25519.token(JWT.claims(["padding": String(repeating: "x", count: padding)]))
        }
        let padding = (8192 - (try token(0).utf8.count)) * 3 / 4
        let largest = try token(padding)
        #expect((8189...8192).contains(largest.utf8.count))
        #expect(await authenticator.refusal("Bearer \(largest)") == nil)
        #expect(await authenticator.refusal("Bearer \(try token(padding + 4))") == .malformedToken)
    }

    // MARK: claims

    @Test func issuerAndAudience() async throws {
        for (claim, value, code): (String, Any?, AuthenticationError.Code?) in [
            ("iss", nil, .wrongIssuer), ("iss", "https://issuer.example/", .wrongIssuer),
            ("iss", "", .wrongIssuer),
            ("iss", [JWT.issuer], .malformedToken), ("iss", NSNull(), .wrongIssuer),
            ("aud", nil, .wrongAudience),
            ("aud", "other", .wrongAudience), ("aud", "Signalbox", .wrongAudience),
            ("aud", "", .wrongAudience),
            ("aud", [String](), .wrongAudience), ("aud", ["other"], .wrongAudience),
            ("aud", ["other", JWT.audience], nil), ("aud", [JWT.audience], nil),
            ("aud", "other \(JWT.audience)", .wrongAudience), ("aud", 1, .malformedToken),
            ("aud", [JWT.audience, 1] as [Any], .malformedToken),
        ] {
            let found = try await refusal(p256.token(JWT.claims([claim: value])))
            #expect(found == code, "\(claim) \(String(describing: value))")
        }
    }

    @Test func theClaimsAreAnObject() async throws {
        for payload in ["[]", "1", "\"sub\"", "null", "{", ""] {
            let signed =
                base64URL(try JWT.json(["alg": "ES256", "kid": "p256"])) + "."
                + base64URL(Array(payload.utf8))
            let token = signed + "." + base64URL(try p256.sign(Array(signed.utf8)))
            let code: AuthenticationError.Code = payload.isEmpty ? .unknownToken : .malformedToken
            #expect(try await refusal(token) == code, "\(payload)")
        }
    }

    /// exp with a leeway of 30 s: good up to 29.999999 s after it, but for what began before it no second longer, and
    /// for what is begun after it two seconds.
    @Test func expiry() async throws {
        let authenticator = try authenticator()
        let header = "Bearer \(try p256.token(JWT.claims(["exp": clock.seconds + 100])))"
        let expiry = clock.now.advanced(by: .seconds(100))

        clock.advance(by: .seconds(100) - .microseconds(1))
        let before = try await authenticator.authenticate(authorization: header, certificate: nil, source: "")
        #expect(before.principal.expiry == expiry && before.isValid(now: clock.now))

        clock.advance(by: .microseconds(1))
        #expect(before.problem(now: clock.now)?.code == .expired)
        #expect(authenticator.known(header) == nil)
        let late = try await authenticator.authenticate(authorization: header, certificate: nil, source: "")
        #expect(late.principal.expiry == expiry.advanced(by: .seconds(2)) && late.isValid(now: clock.now))
        #expect(authenticator.known(header) === late)

        // Looked at again, as long as the leeway lasts.
        clock.advance(by: .seconds(2))
        #expect(late.problem(now: clock.now)?.code == .expired && authenticator.known(header) == nil)
        clock.advance(by: .seconds(27))
        let last = try await authenticator.authenticate(authorization: header, certificate: nil, source: "")
        #expect(last.principal.expiry == expiry.advanced(by: .seconds(30)))
        clock.advance(by: .seconds(1) - .microseconds(1))
        #expect(authenticator.known(header) === last)
        clock.advance(by: .microseconds(1))
        #expect(last.problem(now: clock.now)?.code == .expired)
        #expect(authenticator.known(header) == nil)
        #expect(await authenticator.refusal(header) == .expired)
    }

    @Test(arguments: [0, 1, 30, 60])
    func leeway(_ leeway: Int) async throws {
        for (offset, code): (Int, AuthenticationError.Code?) in [
            (-leeway - 1, .expired), (-leeway, .expired), (-leeway + 1, nil), (1, nil),
        ] {
            let token = try p256.token(JWT.claims(["exp": clock.seconds + offset]))
            let found = try await refusal(token) { $0.leeway = .seconds(leeway) }
            #expect(found == code, "exp \(offset)")
        }
        for (offset, code): (Int, AuthenticationError.Code?) in [
            (leeway + 1, .notYetValid), (leeway, nil), (0, nil), (-1000, nil),
        ] {
            let token = try p256.token(JWT.claims(["nbf": clock.seconds + offset]))
            let found = try await refusal(token) { $0.leeway = .seconds(leeway) }
            #expect(found == code, "nbf \(offset)")
        }
    }

    @Test func strangeTimes() async throws {
        for (value, code): (Any?, AuthenticationError.Code?) in [
            (nil, .malformedToken), (NSNull(), .malformedToken), ("2000000000", .malformedToken),
            (true, .malformedToken),
            ([clock.seconds + 100], .malformedToken), (0, .expired), (-1, .expired), (-1e300, .expired),
            (1e300, nil),
            (Int64.max, nil), (UInt64.max, nil), (Double(clock.seconds) + 100.5, nil),
        ] {
            let found = try await refusal(p256.token(JWT.claims(["exp": value])))
            #expect(found == code, "\(String(describing: value))")
        }
        #expect(try await refusal(p256.token(JWT.claims(["nbf": 1e300]))) == .notYetValid)
        #expect(try await refusal(p256.token(JWT.claims(["nbf": "now"]))) == .malformedToken)
    }

    @Test func subjects() async throws {
        let noCharacter = Unicode.Scalar(0xFDD0).map { "ada\($0)" }
        let subjects: [(Any?, AuthenticationError.Code?)] = [
            (nil, .malformedToken), ("", .malformedToken), (NSNull(), .malformedToken), (7, .malformedToken),
            ("a\nb", .malformedToken), ("a\u{0}", .malformedToken), ("a\u{85}b", .malformedToken),
            ("a\u{2028}b", .malformedToken), ("ada\u{200B}", .malformedToken),
            ("\u{202E}ada", .malformedToken), ("ada\u{AD}", .malformedToken), (noCharacter, .malformedToken),
            ("root ", .malformedToken), ("root\u{A0}", .malformedToken), ("\u{2800}", .malformedToken),
            ("\u{E000}", .malformedToken),
            ("a" + String(repeating: "\u{30F}", count: 34), .malformedToken),
            (String(repeating: "é", count: 128), nil),
            (String(repeating: "é", count: 128) + "x", .malformedToken),
            ("Ada Lovelace <ada@example.com>", nil),
        ]
        for (value, code) in subjects {
            let found = try await refusal(p256.token(JWT.claims(["sub": value])))
            #expect(found == code, "\(String(describing: value))")
        }
    }

    @Test func scopes() async throws {
        let authenticator = try authenticator()
        for (claims, scopes): ([String: Any?], Set<Scope>) in [
            (["scope": nil], []), (["scope": ""], []), (["scope": "admin"], [.admin]),
            (["scope": "  openid jobs.cancel  jobs.write jobs.read "], [.cancel, .read]),
            (["scope": "jobs.read,admin"], []), (["scope": "JOBS.READ"], []),
            (["scope": ["jobs.read", "x"]], [.read]),
            (["scope": nil, "scp": ["jobs.enqueue", "jobs.read"]], [.enqueue, .read]),
            (["scope": nil, "scp": "jobs.enqueue jobs.read"], [.enqueue, .read]),
            (["scope": nil, "scopes": ["admin"]], [.admin]),
            // The first that is there counts; they do not add up.
            (["scope": "jobs.read", "scp": ["admin"], "scopes": ["admin"]], [.read]),
            (["scope": "", "scp": ["admin"]], []), (["scope": NSNull(), "scp": ["admin"]], [.admin]),
        ] {
            let token = try p256.token(JWT.claims(claims))
            #expect(try await authenticator.principal("Bearer \(token)").scopes == scopes, "\(claims)")
        }
        for value: Any in [1, ["jobs.read", 1] as [Any], ["jobs.read": true]] {
            #expect(try await refusal(p256.token(JWT.claims(["scope": value]))) == .malformedToken)
        }
    }

    @Test func users() async throws {
        for claim in ["signalbox_users", "https://example.com/users"] {
            let authenticator = try authenticator { $0.usersClaim = claim }
            for (value, users): (Any?, UserScope) in [
                (nil, .only(["ada"])), ("*", .all), (["ada", "bob"], .only(["ada", "bob"])),
                ([String](), .only([])),
                (["*"], .only(["*"])),
            ] {
                let token = try p256.token(JWT.claims([claim: value]))
                #expect(try await authenticator.principal("Bearer \(token)").users == users)
            }
            for value: Any in [
                "ada", "", "**", 1, true, NSNull(), ["ada", 1] as [Any], ["ada": "bob"], [""],
                ["ada", "bob\u{200B}"], ["b\nob"],
            ] {
                let token = try p256.token(JWT.claims([claim: value]))
                #expect(await authenticator.refusal("Bearer \(token)") == .malformedToken, "\(value)")
            }
        }
    }

    @Test func noMessageShowsTheToken() async throws {
        let authenticator = try authenticator()
        for (claims, header): ([String: Any?], [String: Any?]) in [
            (["iss": "canary"], [:]), (["aud": "canary"], [:]), (["sub": "canary\n"], [:]),
            (["exp": "canary"], [:]),
            (["signalbox_users": "canary"], [:]), ([:], ["kid": "canary"]), ([:], ["alg": "canary"]),
            ([:], ["crit": ["canary"]]), (["scope": ["canary", 1] as [Any]], [:]),
        ] {
            let token = try p256.token(JWT.claims(claims), header: header)
            do {
                _ = try await authenticator.authenticate(
                    authorization: "Bearer \(token)", certificate: nil, source: "")
                Issue.record("not refused: \(claims) \(header)")
            } catch {
                #expect(!"\(error) \(error.message)".contains("canary"))
                for part in token.split(separator: ".") { #expect(!error.message.contains(part)) }
            }
        }
    }
}
