/// Rows in columns for people. Columns only become wider, so that later pages line up with earlier ones as far as
/// possible.
struct Table {
    struct Column {
        var title: String
        /// The most columns of the terminal for a value. Longer values are cut.
        var columnsMax: Int
        var alignsRight: Bool

        init(_ title: String, max columnsMax: Int = 40, alignsRight: Bool = false) {
            self.title = title
            self.columnsMax = columnsMax
            self.alignsRight = alignsRight
        }
    }

    private let columns: [Column]
    private var widths: [Int]
    private var hasTitles = false

    init(_ columns: [Column]) {
        self.columns = columns
        widths = columns.map(\.title.columns)
    }

    /// The lines of these rows, after the titles if they are the first rows.
    mutating func lines(_ rows: [[String]]) -> [String] {
        let rows = rows.map { row in
            zip(row, columns).map { value, column in value.printable.cut(toColumns: column.columnsMax) }
        }
        for row in rows {
            for (index, value) in row.enumerated() { widths[index] = max(widths[index], value.columns) }
        }
        let titles = hasTitles ? [] : [columns.map(\.title)]
        hasTitles = true
        return (titles + rows).map(line)
    }

    /// The lines as text; empty if there are none.
    mutating func text(_ rows: [[String]]) -> String {
        lines(rows).map { $0 + "\n" }.joined()
    }

    private func line(_ values: [String]) -> String {
        var line = ""
        for (index, value) in values.enumerated() {
            if index > 0 { line += "  " }
            let isLast = index == values.count - 1
            line +=
                isLast && !columns[index].alignsRight
                ? value : value.padded(toColumns: widths[index], left: columns[index].alignsRight)
        }
        let end = line.utf8.lastIndex { $0 != UInt8(ascii: " ") }
        return end.map { String(decoding: line.utf8[...$0], as: UTF8.self) } ?? ""
    }
}
