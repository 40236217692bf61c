import ArgumentParser
import FoundationEssentials
import Settings

/// The options of every client command.
struct ServiceOptions: ParsableArguments {
    @OptionGroup var client: ClientOptions

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    /// The settings for the connection. Throws a `ValidationError` that names the flag or the variable.
    func target() throws -> ClientSettings {
        do {
            return try client.settings(environment: ProcessInfo.processInfo.environment)
        } catch {
            throw ValidationError(error.description)
        }
    }
}
