@testable import SignalboxClient

/// The client's `Caller`, for files that import the one of `JobModel` too.
typealias ClientCaller = Caller
