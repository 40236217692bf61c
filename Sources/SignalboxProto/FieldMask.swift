package import Support

/// The fields of a message that a request changes (google/protobuf/field_mask.proto).
package struct FieldMask: Sendable, Hashable {
    /// The most paths in a request.
    static let pathsMax = 32

    /// The names of the fields.
    package var paths: [ExactText]

    package init(paths: [ExactText]) {
        self.paths = paths
    }
}
