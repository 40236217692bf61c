import ArgumentParser
import Authentication
import FoundationEssentials
import JobModel
import Support

/// `signalbox token …`, which makes tokens for the file of `serve --auth-tokens`.
struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token", abstract: "Create tokens for callers of a server.", subcommands: [Create.self])

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Create a token. Prints the token and its entry for the server's token file.")

        @Argument(help: "The name of the caller, which the audit records.")
        var name: String

        @Option(help: "A scope of the token: jobs.enqueue, jobs.read, jobs.cancel or admin. May be repeated.")
        var scope: [String]

        @Option(
            help: "'all': the caller may act for all users. [default: the user called NAME; see --user]",
            completion: .list(["all"]))
        var users: String?

        @Option(help: "A user for whom the caller may act. May be repeated.")
        var user: [String] = []

        @Option(help: "When the token expires, as in 2030-01-31T12:00:00Z. [default: never]")
        var expires: String?

        func run() throws {
            guard PrincipalName.isValid(name) else {
                throw ValidationError("NAME must be \(PrincipalName.rule)")
            }
            let scopes = scope.map(Scope.init(rawValue:))
            guard !scopes.isEmpty, !scopes.contains(nil) else {
                let names = Scope.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError("--scope must be one of \(names)")
            }
            guard users == nil || users == "all" && user.isEmpty else {
                throw ValidationError("--users must be 'all', without --user")
            }
            var expiry: Timestamp?
            if let expires {
                guard let date = try? Date(expires, strategy: .iso8601) else {
                    throw ValidationError("--expires must be a time, as in 2030-01-31T12:00:00Z")
                }
                expiry = Timestamp(microseconds: Int64(date.timeIntervalSince1970 * 1_000_000))
            }
            let token = TokenFile.newToken()
            let entry = TokenFile.Entry(
                name: name, hash: SHA256Hash(of: Array(token.utf8)), scopes: Set(scopes.compactMap(\.self)),
                users: users == "all"
                    ? .all : user.isEmpty ? .itself : .only(Set(user.map(ExactText.init(_:)))), expiry: expiry
            )
            // An entry that the server would refuse, or would read in another way, is refused here.
            let whole = Array("tokens:\n\(entry.yaml)".utf8)
            guard user.allSatisfy(PrincipalName.isValid),
                let read = try? TokenFile.parse(whole, name: "entry"),
                read == [entry]
            else {
                throw ValidationError(
                    "--user must be \(PrincipalName.rule), and --expires a time after 1970")
            }
            print(
                "# The token, which is shown only here:\n\(token)\n\n# Its entry, below `tokens:` in the file:\n\(entry.yaml)",
                terminator: "")
        }
    }
}
