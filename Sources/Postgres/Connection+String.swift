import CPQ

extension Connection {
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
