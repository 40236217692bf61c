import Crypto
import CryptoExtras
import Foundation
import Testing

@testable import Authentication

private func parse(_ text: String) throws -> (keys: [VerificationKey], skipped: [String]) {
    var skipped: [String] = []
    let set = try KeySet(json: Array(text.utf8), skipped: &skipped)
    return (set.keys, skipped)
}

@Suite struct KeySetTests {
    @Test func theKeyDecidesTheAlgorithm() throws {
        let rsa = try SigningKey.rsa()
        let p256 = SigningKey.p256()
        let ed25519 = SigningKey.ed25519()
        for withAlgorithm in [false, true] {
            let found = try parse(
                keySet([rsa, p256, ed25519].map { try $0.jwk(withAlgorithm ? ["alg": $0.algorithm] : [:]) }))
            #expect(found.skipped.isEmpty)
            #expect(found.keys.map(\.algorithm) == [.rs256, .es256, .edDSA])
            #expect(found.keys.map(\.id) == ["rsa", "p256", "ed"])
        }
    }

    @Test func whatElseAKeyMayHave() throws {
        let jwk = try SigningKey.p256().jwk([
            "use": "sig", "key_ops": ["verify"], "x5c": ["MIIB"], "x5t": "AA", "nbf": 0, "other": [:],
        ])
        #expect(try parse(keySet([jwk])).keys.count == 1)
    }

    @Test func oneBadKeyDoesNotSpoilTheSet() throws {
        let good = SigningKey.p256("good")
        let rsa = try SigningKey.rsa()
        let unusable = "cannot be used with RS256, ES256 (P-256) or EdDSA (Ed25519)"
        let incomplete = "lacks a parameter, or has one that is not base64url of the right length"
        let wrong = "is invalid, or is an RSA key of less than 2048 bits"
        let point = try good.jwk()
        let swapped: [String: Any] = ["kid": "a", "x": point["y"] ?? "", "y": point["x"] ?? ""]
        for (jwk, problem): ([String: Any], String) in [
            ([:], "is not a supported key"), (["kty": 1], "is not a supported key"),
            (["kty": "oct", "k": "c2VjcmV0"], unusable),
            (["kty": "oct", "k": "c2VjcmV0", "alg": "HS256"], unusable),
            (["kty": "AKP", "alg": "ML-DSA-65"], unusable),
            (try good.jwk(["kid": 1]), "is not a supported key"),
            (try good.jwk(["kid": String(repeating: "k", count: 1025)]), "has a kid of more than 1024 bytes"),
            (try good.jwk(), "has the same kid as an earlier key"), (try rsa.jwk(["alg": "RS384"]), unusable),
            (try rsa.jwk(["alg": "PS256"]), unusable), (try rsa.jwk(["alg": "HS256"]), unusable),
            (try rsa.jwk(["alg": "none"]), unusable), (try rsa.jwk(["alg": "ES256"]), unusable),
            (try rsa.jwk(["alg": "RSA-OAEP"]), unusable),
            (try rsa.jwk(["use": "enc"]), "is not for signatures"),
            (try rsa.jwk(["key_ops": ["sign"]]), "is not for signatures"),
            (try rsa.jwk(["d": "AA"]), "is a private key"),
            (try good.jwk(["kid": "a", "crv": "P-384"]), unusable),
            (try good.jwk(["kid": "a", "crv": "secp256k1"]), unusable),
            (try good.jwk(["kid": "a", "alg": "ES384"]), unusable),
            (try good.jwk(["kid": "a", "alg": "EdDSA"]), unusable),
            (try good.jwk(["kid": "a", "y": ""]), incomplete),
            (try good.jwk(["kid": "a", "x": "AAAA"]), incomplete),
            (try good.jwk(["kid": "a", "x": "+/"]), incomplete), (try good.jwk(swapped), wrong),
            (try SigningKey.ed25519().jwk(["crv": "X25519"]), unusable),
            (try SigningKey.ed25519().jwk(["crv": "Ed448"]), unusable),
            (try SigningKey.ed25519().jwk(["x": "AAAA"]), incomplete),
            (["kty": "RSA", "e": "AQAB"], incomplete), (["kty": "RSA", "n": "AQAB"], incomplete),
            (try rsa.jwk(["e": "AQ"]), wrong), (try rsa.jwk(["e": "Ag"]), wrong),
            (try rsa.jwk(["e": ""]), incomplete),
            (try rsa.jwk(["n": base64URL([UInt8](repeating: 0xff, count: 1025))]), incomplete),
            (try rsa.jwk(["n": base64URL([UInt8](repeating: 0xff, count: 128))]), wrong),
            (try rsa.jwk(["n": base64URL([0] + [UInt8](repeating: 0xff, count: 255))]), wrong),
        ] {
            let found = try parse(keySet([try good.jwk(), jwk]))
            #expect(found.keys.map(\.id) == ["good"], "\(jwk)")
            #expect(found.skipped == ["keys[1] \(problem)"], "\(jwk)")
        }
    }

    /// A real one, made by the means of old programs.
    @Test func shortRSAKeysAreRefused() throws {
        let key = try _RSA.Signing.PrivateKey(unsafeKeySize: .init(bitCount: 1024))
        let numbers = try key.publicKey.getKeyPrimitives()
        let found = try parse(
            keySet([["kty": "RSA", "n": base64URL(numbers.modulus), "e": base64URL(numbers.publicExponent)]]))
        #expect(found.keys.isEmpty)
        #expect(found.skipped == ["keys[0] is invalid, or is an RSA key of less than 2048 bits"])
    }

    @Test(
        arguments: [
            "", "{}", "[]", "{\"keys\": {}}", "{\"keys\": null}", "{\"keys\": []", "<html>404</html>",
            "{\"keys\": 1}",
        ])
    func noKeySet(_ text: String) throws {
        let error = #expect(throws: KeySetError.self) { try parse(text) }
        #expect(error?.problem == "is not a JSON Web Key Set, which is an object with a list named keys")
    }

    @Test func limits() throws {
        let jwk = try SigningKey.ed25519().jwk()
        func jwks(_ count: Int) throws -> String {
            try keySet((0..<count).map { index in jwk.merging(["kid": "\(index)"]) { $1 } })
        }
        #expect(try parse(jwks(100)).keys.count == 100)
        var error = #expect(throws: KeySetError.self) { try parse(jwks(101)) }
        #expect(error?.problem == "has more than 100 keys")
        let text = "{\"keys\": []}"
        #expect(try parse(text + String(repeating: " ", count: (1 << 20) - text.utf8.count)).keys.isEmpty)
        error = #expect(throws: KeySetError.self) {
            try parse(text + String(repeating: " ", count: (1 << 20) - text.utf8.count + 1))
        }
        #expect(error?.problem == "is larger than 1048576 bytes")
        _ = try? parse(String(repeating: "[", count: 500_000))
        _ = try? parse("{\"keys\": [" + String(repeating: "[", count: 500_000))
    }

    /// Two spellings of é are two names, so it is another key that takes the place of the first.
    @Test func aKeyIsTheSameByTheBytesOfItsName() throws {
        let secret = Curve25519.Signing.PrivateKey()
        func set(_ id: String, previous: KeySet? = nil) throws -> KeySet {
            let key = SigningKey(id: id, secret: .ed25519(secret), algorithm: "EdDSA")
            var skipped: [String] = []
            return try KeySet(json: Array(keySet([key]).utf8), previous: previous, skipped: &skipped)
        }
        let composed = try set("\u{E9}")
        #expect(try set("\u{E9}", previous: composed).keys.first === composed.keys.first)
        #expect(try set("e\u{301}", previous: composed).keys.first !== composed.keys.first)
    }

    @Test func search() throws {
        let a = SigningKey.p256("a")
        let b = SigningKey.p256("b")
        var skipped: [String] = []
        func search(_ keys: [SigningKey], _ id: String?) throws -> String {
            switch try KeySet(json: Array(keySet(keys).utf8), skipped: &skipped).search(id) {
            case .found(let key): "found \(key.id ?? "nil")"
            case .missing: "missing"
            case .ambiguous: "ambiguous"
            }
        }
        #expect(try search([a, b], "b") == "found b")
        #expect(try search([a, b], "c") == "missing")
        #expect(try search([a, b], nil) == "ambiguous")
        #expect(try search([a], nil) == "found a")
        #expect(try search([], nil) == "missing")
        #expect(try search([.p256(nil)], nil) == "found nil")
        #expect(try search([.p256(nil)], "a") == "missing")
        #expect(try search([.p256(nil), a], nil) == "ambiguous")
        #expect(try search([.p256(nil), a], "a") == "found a")
    }

    @Test func keysThatStayAreTakenOver() throws {
        let a = SigningKey.p256("a")
        let b = SigningKey.ed25519("b")
        let c = try SigningKey.rsa("c")
        var skipped: [String] = []
        let first = try KeySet(json: Array(keySet([a, b, c]).utf8), skipped: &skipped)
        // b has another key now, c another name.
        let second = try KeySet(
            json: Array(keySet([.ed25519("b"), try .rsa("d"), a]).utf8), previous: first, skipped: &skipped)
        first.revokeMissing(in: second)
        #expect(second.keys[2] === first.keys[0])
        #expect(first.keys.map(\.revocation.isRevoked) == [false, true, true])
        #expect(second.keys.allSatisfy { !$0.revocation.isRevoked })
    }
}

/// Signatures that other programs have made, of keys as they write them.
@Suite struct SignatureTests {
    private func check(_ jwk: String, _ token: String) async throws {
        let found = try parse("{\"keys\": [\(jwk)]}")
        let key = try #require(found.keys.first)
        let parsed = try JSONWebToken(Array(token.utf8))
        #expect(parsed.algorithm == key.algorithm)
        #expect(await key.isValid(parsed.signature, of: parsed.signed))
        #expect(await !key.isValid(parsed.signature, of: parsed.signed + [0]))
        for index in [0, parsed.signature.count / 2, parsed.signature.count - 1] {
            var signature = parsed.signature
            signature[index] ^= 1
            #expect(await !key.isValid(signature, of: parsed.signed))
        }
        #expect(await !key.isValid([], of: parsed.signed))
    }

    /// By PyJWT.
    @Test func rs256() async throws {
        let modulus = """
            xJkWMbgAdDA4tdWJiEl5NWf3DscJdF1Z88zYxsquMcx441TXD7tf2UfNvzIazM_WHed1icnMo4ykjLV0InuHUXKk\
            GbJWg57xX7gtk2XMNBoNWfehlzj8iyBgXfgaaQwZK-vM3oGmABdMnjb8Yp960MIQfl2MKUboUNqMRdSUZuJ0CqWB\
            cK4XMMyAgD1foK_gUEMEU3ehsm6V9zYZmYKYEx7FxaCVLS-8-xQvGPAc2UIDAjhPpJXYYPh2jyNrDKzm_FIiPkxN\
            S3n3hAklg0kv2fv86vZhnNwzLzae1OGmJWcyUwg5a2YY9AHaMQKH-T_1DAcu62uY2iV6Jqwqufv4sw
            """
        let token = """
            eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJqb2UifQ.FLaFkW04inXdwBmqDs2Yl1hO_e099zjE\
            G2IuaCCV9HW2-4KzD1iu_RDcmfxIBmZi-mqFd4ORcJFbIJ374zkkTGBOwcf6ZgFPA0CSwOyng503j6cB9yvF9CiJ\
            jah79pr641dIx63gSrCDw-UGtv5mp8usm3t5UaRmmW6X2NnIKFgYzdtT4nvTszd5Fh_hfnFDemaUNupoY6d6oIns\
            S6Lp9da8NFTIYW8G2cLbqfJ-szznmZAxpHgNfq5YN4xKUZyRr9B_PBOyFRUryl7IPVpL6BoDOeHwQKfU9_sC6sYg\
            VjkJ0WIhPznFnyml7SiqRISTOdSwHG2IC9kxFlIgiRX6wg
            """
        try await check(#"{"kty":"RSA","e":"AQAB","n":"\#(modulus)"}"#, token)
    }

    /// RFC 7515, appendix A.3.
    @Test func es256() async throws {
        let jwk = #"""
            {"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
             "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}
            """#
        let token = """
            eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGx\
            lLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8I\
            SlSApmWQxfKTUJqPP3-Kg6NU1Q
            """
        try await check(jwk, token)
    }

    /// RFC 8037, appendix A.4.
    @Test func edDSA() async throws {
        let jwk = #"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#
        let token = """
            eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09P\
            GcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg
            """
        try await check(jwk, token)
    }
}
