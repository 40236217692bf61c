import FoundationEssentials
import JobModel
import Support

// The values of the domain as they are written in messages.

/// An enum of which each value has a number in a .proto. The conformances are generated.
protocol WireEnum: Hashable {
    associatedtype Wire: RawRepresentable where Wire.RawValue == UInt32

    /// Nil for the unspecified value, and for one that this version does not know.
    init?(onWire value: Wire)

    var onWire: Wire { get }

    /// Any value: it stands for an unknown one in a message that is refused.
    static var placeholder: Self { get }
}

/// A type of which each value is a text in messages.
protocol TextValue {
    /// Nil for a text that is not a value of this type.
    init?(onWire text: ExactText)

    var onWire: String { get }

    /// The problem of a text that is not a value of this type.
    static func refusal(of text: ExactText) -> String

    /// Any value: it stands for what is wrong in a message that is refused.
    static var placeholder: Self { get }
}

extension ExactText: TextValue {
    init?(onWire text: ExactText) { self = text }

    var onWire: String { text }

    static func refusal(of text: ExactText) -> String { "is not a text" }

    static var placeholder: ExactText { "" }
}

extension String: TextValue {
    init?(onWire text: ExactText) { self = text.text }

    var onWire: String { self }

    static func refusal(of text: ExactText) -> String { "is not a text" }

    static var placeholder: String { "" }
}

extension JobID: TextValue {
    init?(onWire text: ExactText) { self.init(text.text) }

    var onWire: String { description }

    static func refusal(of text: ExactText) -> String { "is not a UUID of 36 characters" }

    static var placeholder: JobID { JobID(UUID.placeholder) }
}

/// The id of a node.
extension UUID: TextValue {
    init?(onWire text: ExactText) {
        guard let id = JobID(text.text) else { return nil }
        self = id.uuid
    }

    var onWire: String { JobID(self).description }

    static func refusal(of text: ExactText) -> String { JobID.refusal(of: text) }

    static var placeholder: UUID { UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)) }
}
