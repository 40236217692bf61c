package import JobCore
internal import RPC

/// Whom the service has let in, for one call or many.
package final class AdmittedCaller: Admitted {
    package let caller: Caller
    private let check: @Sendable () -> Bool

    /// - Parameter check: whether its credential still holds; asked every other second of a long call.
    init(_ caller: Caller, check: @escaping @Sendable () -> Bool = { true }) {
        self.caller = caller
        self.check = check
    }

    package var isValid: Bool { check() }
}

extension ServerContext {
    /// Who calls. Where nobody asked, somebody who may act for nobody.
    var caller: Caller {
        (admitted as? AdmittedCaller)?.caller
            ?? Caller(name: "", source: .unasked, address: "", users: .only([]))
    }
}
