import Authentication
package import JobEngine

/// The settings of `signalbox serve`: `settings.listen` has the value of the setting `listen` of `ServerSettingsTable`,
/// and so on.
@dynamicMemberLookup
package struct ServerSettings: Sendable, Equatable {
    static let table = ServerSettingsTable()

    private var values: SettingValues
    /// Whether the database URL was given as a flag, which every user of the machine can read in the list of
    /// processes.
    package let databaseURLIsFlag: Bool
    package let queues: [String: QueueSettings]
    /// The commands that run jobs. They can be given in the file only.
    package let commands: [CommandDefinition]
    /// The rules for client certificates. They can be given in the file only.
    let certificates: [CertificateRule]

    package subscript<Value>(dynamicMember member: KeyPath<ServerSettingsTable, Setting<Value>>) -> Value {
        values[Self.table[keyPath: member]]
    }

    /// Takes each setting from its flag, else from the environment, else from the file, else its default.
    ///
    /// - Parameters:
    ///   - arguments: the flags after the name of the command.
    ///   - readFile: returns the text of the file at a path.
    /// - Throws: an error with all problems.
    package static func resolve(
        arguments: [String], environment: [String: String], machine: Machine = .current,
        readFile: (String) throws(SettingsError) -> String = { path throws(SettingsError) in
            try SettingsFile.read(path)
        }
    ) throws(SettingsError) -> ServerSettings {
        var problems: [String] = []
        let flags = FlagReader.read(arguments, for: table.all, problems: &problems)
        return try resolve(
            SettingsReader(
                flags: flags, environment: environment, file: nil, machine: machine, problems: problems),
            readFile: readFile)
    }

    /// The settings of a program that embeds the server. They are checked as flags are, and the environment is
    /// not read.
    ///
    /// - Parameter values: texts as in flags, by the names of the settings.
    /// - Throws: an error with all problems.
    package static func resolve(
        values: [String: String], machine: Machine = .current,
        readFile: (String) throws(SettingsError) -> String = { path throws(SettingsError) in
            try SettingsFile.read(path)
        }
    ) throws(SettingsError) -> ServerSettings {
        let unknown = Set(values.keys).subtracting(table.all.map(\.name)).sorted()
        return try resolve(
            SettingsReader(
                flags: values, flagsAreCode: true, environment: [:], file: nil, machine: machine,
                problems: unknown.map { "unknown setting '\($0)'" }),
            readFile: readFile)
    }

    /// - Parameter reader: a reader without the file. The file is read from the path in its settings.
    private static func resolve(
        _ reader: SettingsReader, readFile: (String) throws(SettingsError) -> String
    ) throws(SettingsError) -> ServerSettings {
        var reader = reader
        if let path = reader.value(table.config) {
            do {
                reader.file = SettingsFile(
                    name: path, text: try readFile(path),
                    settings: table.all.filter { $0.name != table.config.name }, problems: &reader.problems)
            } catch {
                reader.problems += error.problems
            }
        }
        let settings = ServerSettings(&reader)
        settings.check(reader.machine, into: &reader.problems)
        guard reader.problems.isEmpty else { throw SettingsError(problems: reader.problems) }
        return settings
    }

    private init(_ reader: inout SettingsReader) {
        values = SettingValues(of: Self.table.all, &reader)
        databaseURLIsFlag = !reader.flagsAreCode && reader.flags[Self.table.databaseURL.name] != nil
        queues = reader.file?.queues ?? [:]
        commands = reader.file?.commands ?? []
        certificates = reader.file?.certificates ?? []
    }
}

extension ServerSettings {
    /// The text about the settings for `signalbox serve --help`.
    package static var help: String {
        """
        A setting is taken from its flag, else from the environment, else from the file, else it has its
        default.
        Durations are written as in 500ms, 15s, 10m, 2h or 7d.

        \(SettingsHelp.text(table.all))

        Only in the file:
        \(SettingsHelp.text(FileSection.self))
        """
    }

    package static func asksForHelp(_ arguments: [String]) -> Bool {
        arguments.contains("--help") || arguments.contains("-h")
    }
}
