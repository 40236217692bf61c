package import JobModel
internal import GRPC

/// The caller of an admitted call. The calls of a connection may share it.
package final class AdmittedCaller: Admitted {
    package let caller: Caller
    package let isAnonymous: Bool
    private let check: @Sendable () -> Bool

    /// - Parameters:
    ///   - isAnonymous: see `Admitted.isAnonymous`.
    ///   - check: whether its credential still holds; asked every other second of a long call.
    init(_ caller: Caller, isAnonymous: Bool = false, check: @escaping @Sendable () -> Bool = { true }) {
        self.caller = caller
        self.isAnonymous = isAnonymous
        self.check = check
    }

    package var name: String { caller.name }

    package var isValid: Bool { check() }
}

extension ServerContext {
    /// The caller. Where no admission has run, a caller without scopes that may act for no user.
    var caller: Caller {
        (admitted as? AdmittedCaller)?.caller
            ?? Caller(name: "", source: .anonymous, address: "", users: .only([]), scopes: [])
    }
}
