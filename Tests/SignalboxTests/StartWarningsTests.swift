import Settings
import Testing

@testable import Signalbox

@Suite struct StartWarningsTests {
    private func settings(
        _ arguments: [String] = [], _ environment: [String: String] = [:]
    ) throws -> ServerSettings {
        try ServerSettings.resolve(arguments: arguments, environment: environment)
    }

    private func warnings(
        _ arguments: [String], _ environment: [String: String] = [:]
    ) throws -> [String] {
        try settings(arguments, environment).warnings.map { "\($0)" }
    }

    private let tls = ["--tls-certificate", "c", "--tls-key", "k"]
    private let tokens = ["--auth-tokens", "t"]

    @Test func nothingUnsafe() throws {
        #expect(try warnings([]) == [])
        #expect(try warnings(["--listen", "0.0.0.0:1"] + tls + tokens) == [])
    }

    @Test func insecureSaysWhatThatMeans() throws {
        let everybody =
            "--insecure: calls need no credentials: everyone who reaches 0.0.0.0:1 may enqueue, read and "
            + "cancel the jobs of all users, and administer the server"
        let clear =
            "--insecure: there is no TLS: a machine between a client and 0.0.0.0:1 can read and change "
            + "everything that is sent, tokens and payloads included"
        let arguments = ["--listen", "0.0.0.0:1", "--insecure"]
        #expect(try warnings(arguments) == [everybody, clear])
        #expect(try warnings(["--listen", "0.0.0.0:1"], ["SIGNALBOX_INSECURE": "1"]) == [everybody, clear])
        #expect(try warnings(arguments + tls) == [everybody])
        #expect(try warnings(arguments + tokens) == [clear])
        let needless = try warnings(arguments + tls + tokens)
        #expect(needless.count == 1 && needless[0].hasPrefix("--insecure: these settings do not need it"))
        let jwt = ["--auth-jwt-issuer", "i", "--auth-jwt-audience", "a", "--auth-jwks"]
        #expect(try warnings(arguments + tls + jwt + ["https://keys/"]) == needless)
        let keys = try warnings(arguments + tls + jwt + ["http://keys/"])
        #expect(
            keys.count == 1 && keys[0].hasPrefix("--insecure: the keys of auth-jwks are fetched"))
        // On loopback too: other users of the machine reach that.
        #expect(try warnings(["--insecure"]).count == 2)
    }

    @Test(arguments: [
        "postgresql://ada:s3cret@localhost/db", "postgresql://localhost/db?password=s3cret",
        "host=localhost password=s3cret",
    ])
    func aPasswordInAFlag(_ url: String) throws {
        for arguments in [["--database-url", url], ["--database-url=\(url)"]] {
            let warnings = try warnings(arguments)
            #expect(warnings.count == 1 && warnings[0].hasPrefix("--database-url has a password in it"))
            #expect(!warnings[0].contains("s3cret"))
        }
        #expect(try warnings([], ["SIGNALBOX_DATABASE_URL": url]) == [])
    }

    @Test func aFlagWithoutAPassword() throws {
        #expect(try warnings(["--database-url", "postgresql://ada@localhost/db"]) == [])
    }

    @Test(arguments: [
        "postgresql://ada:s3cret@box/db", "postgresql://ada:s3cret@10.0.0.1/db?sslmode=require",
        "host=localhost,box sslmode=verify-ca password=s3cret",
    ])
    func aDatabaseThatIsNotVerified(_ url: String) throws {
        let notice = try #require(settings(["--database-url", url]).unverifiedDatabaseNotice)
        #expect("\(notice)".contains("give sslmode=verify-full") && !"\(notice)".contains("s3cret"))
    }

    @Test(arguments: [
        "postgresql://ada@box/db?sslmode=verify-full", "postgresql://localhost/db", "host=127.0.0.1",
        "postgresql:///db?host=/run/postgresql", "host=@abstract", "service=elsewhere",
    ])
    func aDatabaseThatIsVerifiedOrHere(_ url: String) throws {
        #expect(try settings(["--database-url", url]).unverifiedDatabaseNotice == nil)
    }

    @Test func aDatabaseOfItsOwn() throws {
        #expect(try settings().unverifiedDatabaseNotice == nil)
    }
}
