import CPQ

/// The server that a connection string names, as libpq reads it.
package struct ConnectionTarget: Sendable, Hashable {
    /// Names, addresses, and folders of Unix sockets, to be tried in this order. Empty: the default folder, or the hosts of
    /// the service file's entry that the string names.
    package var hosts: [String]
    /// libpq's `sslmode`; `prefer` by default.
    package var sslMode: String
    /// Whether the string itself contains a password or another secret.
    package var hasSecret: Bool
}

extension Connection {
    /// The target of a connection string. Options that it leaves out are taken from the environment (`PGHOST`,
    /// `PGSSLMODE` …). Nil if the string is malformed.
    package static func target(ofConnectionString string: String) -> ConnectionTarget? {
        let parsed = unsafe PQconninfoParse(string, nil)
        defer { unsafe PQconninfoFree(parsed) }
        guard let parsed = unsafe parsed else { return nil }
        let own = unsafe options(parsed)
        let defaults = unsafe PQconndefaults()
        defer { unsafe PQconninfoFree(defaults) }
        let environment = unsafe defaults.map { unsafe options($0) } ?? [:]
        func value(_ keyword: String) -> String? { (own[keyword] ?? environment[keyword])?.value }
        // The options of a service take precedence over those of the environment, and are not known here.
        let hosts = own["service"] == nil ? value("hostaddr") ?? value("host") : own["host"]?.value
        return ConnectionTarget(
            hosts: hosts?.split(separator: ",").map(String.init) ?? [], sslMode: value("sslmode") ?? "prefer",
            hasSecret: own.values.contains(where: \.isSecret))
    }

    /// The options that have a value, by keyword.
    private static func options(
        _ first: UnsafeMutablePointer<PQconninfoOption>
    ) -> [String: (value: String, isSecret: Bool)] {
        var options: [String: (value: String, isSecret: Bool)] = [:]
        var option = unsafe first
        while let keyword = unsafe option.pointee.keyword {
            if let value = unsafe option.pointee.val, unsafe value.pointee != 0 {
                // libpq marks options with an asterisk that dialogs should hide.
                let mark = unsafe option.pointee.dispchar.map { unsafe String(cString: $0) }
                unsafe options[String(cString: keyword)] = (String(cString: value), mark == "*")
            }
            unsafe option += 1
        }
        return options
    }

    /// The reason why libpq cannot parse a connection string; nil if it can. The text quotes nothing of the
    /// string except a keyword, because libpq's own messages quote the part at which they fail, which may be a
    /// password.
    package static func problem(ofConnectionString string: String) -> String? {
        var message: UnsafeMutablePointer<CChar>?
        let options = unsafe PQconninfoParse(string, &message)
        defer {
            unsafe PQconninfoFree(options)
            unsafe PQfreemem(message)
        }
        guard var option = unsafe options else {
            return "malformed: neither postgresql://user@host/name nor keywords and values that libpq knows"
        }
        // The rest of a password whose special characters are not escaped ends up in another option.
        while let keyword = unsafe option.pointee.keyword {
            if let value = unsafe option.pointee.val,
                unsafe isMisplaced(String(cString: value), for: String(cString: keyword))
            {
                return "malformed at \(unsafe String(cString: keyword)); "
                    + "in a password, @ is written %40, and / is written %2F"
            }
            unsafe option += 1
        }
        return nil
    }

    private static func isMisplaced(_ value: String, for keyword: String) -> Bool {
        switch keyword {
        case "port": !value.allSatisfy { "0123456789, ".contains($0) }
        // The name of an abstract socket begins with @.
        case "host": value.split(separator: ",").contains { $0.dropFirst().contains("@") }
        default: false
        }
    }
}
