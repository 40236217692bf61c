import CPQ

/// What a connection string says about the way to the server, as libpq reads it.
package struct ConnectionTarget: Sendable, Hashable {
    /// Names, addresses, and folders of Unix sockets, to be tried in this order. Empty: the default folder, or what a
    /// service that the string names has in its file.
    package var hosts: [String]
    /// libpq's `sslmode`, `prefer` unless something else was said.
    package var sslMode: String
    /// A password or something like it is in the string itself.
    package var hasSecret: Bool
}

extension Connection {
    /// The string's own options, and what libpq takes from the environment (`PGHOST`, `PGSSLMODE` …) for those that
    /// it leaves out. Nil: it is malformed.
    package static func target(ofConnectionString string: String) -> ConnectionTarget? {
        let parsed = unsafe PQconninfoParse(string, nil)
        defer { unsafe PQconninfoFree(parsed) }
        guard let parsed = unsafe parsed else { return nil }
        let own = unsafe options(parsed)
        let defaults = unsafe PQconndefaults()
        defer { unsafe PQconninfoFree(defaults) }
        let environment = unsafe defaults.map { unsafe options($0) } ?? [:]
        func value(_ keyword: String) -> String? { (own[keyword] ?? environment[keyword])?.value }
        // A service's options come before those of the environment, and are not known here.
        let hosts = own["service"] == nil ? value("hostaddr") ?? value("host") : own["host"]?.value
        return ConnectionTarget(
            hosts: hosts?.split(separator: ",").map(String.init) ?? [], sslMode: value("sslmode") ?? "prefer",
            hasSecret: own.values.contains(where: \.isSecret))
    }

    /// Those that have a value, by keyword.
    private static func options(
        _ first: UnsafeMutablePointer<PQconninfoOption>
    ) -> [String: (value: String, isSecret: Bool)] {
        var options: [String: (value: String, isSecret: Bool)] = [:]
        var option = unsafe first
        while let keyword = unsafe option.pointee.keyword {
            if let value = unsafe option.pointee.val, unsafe value.pointee != 0 {
                // libpq marks with an asterisk what is to be hidden in a dialogue.
                let mark = unsafe option.pointee.dispchar.map { unsafe String(cString: $0) }
                unsafe options[String(cString: keyword)] = (String(cString: value), mark == "*")
            }
            unsafe option += 1
        }
        return options
    }

    /// Why libpq would not make sense of a connection string, in words that hold nothing of it but a keyword: libpq's
    /// own quote what they stumble over, which may be a password. Nil: it can be tried.
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
        // What is left of a password in which some characters were not escaped ends up here.
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
        // An abstract socket's name begins with one.
        case "host": value.split(separator: ",").contains { $0.dropFirst().contains("@") }
        default: false
        }
    }
}
