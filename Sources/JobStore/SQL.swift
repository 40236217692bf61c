// This file is in the module that has the statements, because it is generic: what another module calls is not specialized
// there, and binding the parameters of a lone Enqueue then took 6 % of the server's time.

package import Postgres

/// SQL text with parameters, which get their numbers when a `ParameterizedStatement` is made from it.
///
/// It is written as a string literal. `\(\.ids)` stands for the property `ids` of the statement's input as a parameter,
/// `\(fragment)` for other SQL, and `\(sql: text)` for text without parameters. Only constants may be given as `sql:`.
package struct SQL<Input>: Sendable, ExpressibleByStringInterpolation {
    fileprivate enum Part: Sendable {
        case text(String)
        case parameter(Parameter<Input>)
    }

    fileprivate var parts: [Part]

    package init(stringLiteral text: String) {
        parts = [.text(text)]
    }

    package init(stringInterpolation: StringInterpolation) {
        parts = stringInterpolation.parts
    }

    package struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var parts: [Part] = []

        package init(literalCapacity: Int, interpolationCount: Int) {
            parts.reserveCapacity(2 * interpolationCount + 1)
        }

        package mutating func appendLiteral(_ text: String) {
            parts.append(.text(text))
        }

        package mutating func appendInterpolation<Value: ParameterValue>(
            _ path: any KeyPath<Input, Value> & Sendable
        ) {
            parts.append(.parameter(Parameter(path)))
        }

        package mutating func appendInterpolation(_ parameter: Parameter<Input>) {
            parts.append(.parameter(parameter))
        }

        package mutating func appendInterpolation(_ fragment: SQL) {
            parts += fragment.parts
        }

        package mutating func appendInterpolation(sql text: String) {
            parts.append(.text(text))
        }
    }
}

/// One parameter of a statement: its type, and how its value is read from the statement's input.
package struct Parameter<Input>: Sendable {
    /// The identity of a parameter. Parameters with the same identity share a number.
    fileprivate enum Identity: Sendable {
        case path(any AnyKeyPath & Sendable)
        case name(String)

        static func == (left: Identity, right: Identity) -> Bool {
            switch (left, right) {
            case (.path(let left), .path(let right)): left as AnyKeyPath == right as AnyKeyPath
            case (.name(let left), .name(let right)): left == right
            default: false
            }
        }
    }

    fileprivate let identity: Identity
    fileprivate let type: UInt32
    fileprivate let append: @Sendable (Input, inout Parameters) -> Void

    package init<Value: ParameterValue>(_ path: any KeyPath<Input, Value> & Sendable) {
        identity = .path(path)
        type = Value.parameterType
        append = { Value.append($0[keyPath: path], to: &$1) }
    }

    /// A parameter whose value is computed from the input. The name is unique within the statement.
    package init<Value: ParameterValue>(
        _ name: String, _ value: @escaping @Sendable (Input) -> Value
    ) {
        identity = .name(name)
        type = Value.parameterType
        append = { Value.append(value($0), to: &$1) }
    }
}

/// A statement that takes its parameters from an `Input`. It should be a `static let`, so that its text is built
/// once.
package struct ParameterizedStatement<Input>: Sendable {
    package let statement: Statement
    /// The object ids of the parameters' types, in the order of their numbers.
    package let parameterTypes: [UInt32]
    private let parameters: [Parameter<Input>]

    package init(_ name: String, _ sql: SQL<Input>) {
        var text = ""
        var parameters: [Parameter<Input>] = []
        for part in sql.parts {
            switch part {
            case .text(let constant): text += constant
            case .parameter(let parameter):
                let known = parameters.firstIndex { $0.identity == parameter.identity }
                if known == nil { parameters.append(parameter) }
                text += "$\((known ?? parameters.count - 1) + 1)"
            }
        }
        statement = Statement(name, text)
        parameterTypes = parameters.map(\.type)
        self.parameters = parameters
    }

    package var sql: String { statement.sql }

    /// The values of the parameters, in the order of their numbers.
    package func bind(_ input: Input) -> Parameters {
        Parameters { for parameter in parameters { parameter.append(input, &$0) } }
    }
}

/// A statement that belongs to the type of its input, whose properties are its parameters.
package protocol Command: Sendable {
    static var statement: ParameterizedStatement<Self> { get }
}

extension Query {
    package init<Input>(_ statement: ParameterizedStatement<Input>, _ input: Input) {
        self.init(statement.statement, statement.bind(input))
        assert(
            parameters.types == statement.parameterTypes,
            "a parameter has another type than its Swift type says")
    }

    package init<Input: Command>(_ command: Input) {
        self.init(Input.statement, command)
    }
}

extension Connection {
    @discardableResult
    package func execute<Input: Command>(_ command: Input) throws(PostgresError) -> QueryResult {
        try execute(Input.statement, command)
    }

    @discardableResult
    package func execute<Input>(
        _ statement: ParameterizedStatement<Input>, _ input: Input
    ) throws(PostgresError) -> QueryResult {
        let query = Query(statement, input)
        return try execute(query.statement, query.parameters)
    }
}
