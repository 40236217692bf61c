import Postgres
import Testing

@Suite struct ConnectionStringTests {
    @Test(arguments: [
        "postgresql://ada:s3cret@[::1/db", "postgresql://ada:s3%zzcret@host/db",
        "postgresql://ada@host/db?s3cret=x", "postgres//ada:s3cret@host/db", "host=h password=s3 cret",
        "host=h password=s3 cret=b",
    ])
    func nothingOfAMalformedOneIsShown(_ string: String) throws {
        let problem = try #require(Connection.problem(ofConnectionString: string))
        #expect(problem.hasPrefix("malformed"))
        #expect(!problem.contains("s3") && !problem.contains("cret"))
    }

    /// libpq reads them, and shows a part of the password when it tries to connect.
    @Test(arguments: [
        ("postgresql://ada:s3@cret@host/db", "host"), ("postgresql://ada:s3/cret@host/db", "port"),
    ])
    func thePositionOfAMisreadPasswordIsNamed(_ string: String, _ keyword: String) throws {
        let problem = try #require(Connection.problem(ofConnectionString: string))
        #expect(problem.hasPrefix("malformed at \(keyword);"))
        #expect(!problem.contains("s3") && !problem.contains("cret"))
    }

    @Test(arguments: [
        "", "postgresql://ada:p%40%2Fw@host:5432/db?sslmode=require", "postgresql:///db?host=/run/x&user=ada",
        "postgresql://a:1,b:2/db", "postgresql://a,b:2/db", "host='/x y' port=5432 user=u dbname=d",
        "host=@abstract port=1,2",
    ])
    func whatLibpqTakesIsFine(_ string: String) {
        #expect(Connection.problem(ofConnectionString: string) == nil)
    }

    @Test(arguments: [
        "postgresql://ada:s3cret@box/db", "postgres://ada:s3cret@/db",
        "postgresql://ada@box/db?password=s3cret",
        "host=box password=s3cret", "password = 's3 cret' dbname=db", "host=box sslkey=k sslpassword=s3cret",
    ])
    func aPasswordIsFound(_ string: String) throws {
        #expect(try #require(Connection.target(ofConnectionString: string)).hasSecret)
    }

    @Test(arguments: [
        "", "postgresql://ada@box/db", "postgresql://ada:@box/db", "postgresql:///db?passfile=/run/password",
        "host=box user=password dbname=password", "passfile='/x password=y'", "host=box password=''",
    ])
    func noPasswordIsFound(_ string: String) throws {
        #expect(try #require(Connection.target(ofConnectionString: string)).hasSecret == false)
    }

    @Test(arguments: [
        ("postgresql://a:1,[::1]:2/db?sslmode=verify-full", ["a", "::1"], "verify-full"),
        ("host=a hostaddr=10.0.0.1 sslmode=disable", ["10.0.0.1"], "disable"),
        ("postgresql:///db?host=/run/x&sslmode=require", ["/run/x"], "require"),
        ("postgresql://box/db?ssl=true", ["box"], "require"),
        ("service=elsewhere sslmode=allow", [], "allow"),
    ])
    func theWayToTheServer(_ string: String, _ hosts: [String], _ mode: String) throws {
        let target = try #require(Connection.target(ofConnectionString: string))
        #expect(target.hosts == hosts && target.sslMode == mode)
    }

    @Test func aMalformedOneHasNoTarget() {
        #expect(Connection.target(ofConnectionString: "postgresql://ada:s3cret@[::1/db") == nil)
    }
}
