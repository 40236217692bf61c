import CPQ

import Glibc

/// The rows and the command tag that one statement returned. It owns a `PGresult`, which is wholly in memory, so
/// statements that can return much have a LIMIT.
///
/// It is a class and not a `~Copyable` struct, because results are put into arrays and rows keep their result
/// alive.
@safe package final class QueryResult: RandomAccessCollection {
    private let handle: OpaquePointer
    package let rowCount: Int
    package let columnCount: Int
    /// The statement's name, for errors.
    let statement: String?
    private var nextColumn = 0

    /// Takes ownership of `handle`.
    init(owning handle: OpaquePointer, statement: String?) {
        unsafe self.handle = unsafe handle
        self.rowCount = unsafe Int(PQntuples(handle))
        self.columnCount = unsafe Int(PQnfields(handle))
        self.statement = statement
    }

    deinit {
        unsafe PQclear(handle)
    }

    /// The number of rows that the statement inserted, updated, deleted or returned; 0 for any other statement.
    package var affectedRows: Int {
        var count = 0
        // libpq returns a static empty string if there is no count, and digits otherwise.
        guard var digit = unsafe PQcmdTuples(handle) else { return 0 }
        while unsafe digit.pointee != 0 {
            count = unsafe count * 10 + Int(digit.pointee) - 48
            unsafe digit += 1
        }
        return count
    }

    /// Finds a column by its name. Callers mostly look for columns in the order of the statement, so the search
    /// begins behind the last column that was found.
    func index(ofColumn name: String) throws(PostgresError) -> Int {
        let found = unsafe name.withCString { name -> Int? in
            for offset in 0..<columnCount {
                let index = (nextColumn + offset) % columnCount
                guard let candidate = unsafe PQfname(handle, Int32(index)) else { continue }
                if unsafe strcmp(candidate, name) == 0 { return index }
            }
            return nil
        }
        guard let found else {
            throw PostgresError(.decoding, "the result has no column \(name)", statement: statement)
        }
        nextColumn = found + 1
        return found
    }

    /// The name of a column, for errors.
    func name(ofColumn index: Int) -> String {
        unsafe PQfname(handle, Int32(clamping: index)).map { unsafe String(cString: $0) } ?? String(index)
    }

    package var startIndex: Int { 0 }
    package var endIndex: Int { rowCount }
    package subscript(row: Int) -> Row { Row(result: self, index: Int32(row)) }

    /// The only row of a result that must have exactly one.
    package var onlyRow: Row {
        get throws(PostgresError) {
            guard rowCount == 1 else {
                throw PostgresError(.decoding, "expected one row, got \(rowCount)", statement: statement)
            }
            return self[0]
        }
    }

    /// Lends one value to `body`, with the object id of its type; nil for NULL. The buffer is only valid during
    /// the call.
    @inline(__always)
    func withValue<R>(
        row: Int32, column: Int,
        _ body: (_ type: UInt32, UnsafeRawBufferPointer?) throws(PostgresError) -> R
    ) throws(PostgresError) -> R {
        guard column >= 0, column < columnCount, row >= 0, row < rowCount else {
            throw PostgresError(.decoding, "there is no column \(column)", statement: statement)
        }
        let column = Int32(column)
        let type = unsafe PQftype(handle, column)
        if unsafe PQgetisnull(handle, row, column) == 1 {
            return try body(type, nil)
        }
        let length = unsafe Int(PQgetlength(handle, row, column))
        return try unsafe body(
            type, UnsafeRawBufferPointer(start: PQgetvalue(handle, row, column), count: length))
    }
}

extension QueryResult {
    /// The server's error, if it sent one with this result.
    var error: PostgresError? {
        guard let sqlState = unsafe Diagnostic.sqlState.read(handle) else { return nil }
        let message = unsafe Diagnostic.message.read(handle) ?? ""
        let constraint = unsafe Diagnostic.constraint.read(handle)
        return PostgresError(
            .server(sqlState: sqlState), message, constraint: constraint, statement: statement)
    }
}
