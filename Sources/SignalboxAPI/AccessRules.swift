import JobModel
import SignalboxProto

/// The permission that a call needs.
enum AccessRule: Sendable, Hashable {
    /// No credentials: a load balancer's health check has none.
    case nothing
    /// Valid credentials with any scope.
    case credentials
    case scope(Scope)
}

// exact in this file: the keys are the paths of our own methods.

/// The access rule of each method. Calls of a method without a rule are refused.
enum AccessRules {
    static let byPath: [String: AccessRule] = [
        JobServiceMethod.enqueue: .scope(.enqueue),
        JobServiceMethod.enqueueBatch: .scope(.enqueue),
        JobServiceMethod.retry: .scope(.enqueue),
        JobServiceMethod.getJob: .scope(.read),
        JobServiceMethod.listJobs: .scope(.read),
        JobServiceMethod.listAttempts: .scope(.read),
        JobServiceMethod.listLogLines: .scope(.read),
        JobServiceMethod.watch: .scope(.read),
        JobServiceMethod.cancel: .scope(.cancel),
        AdminServiceMethod.getQueue: .scope(.admin),
        AdminServiceMethod.listQueues: .scope(.admin),
        AdminServiceMethod.listNodes: .scope(.admin),
        AdminServiceMethod.pauseQueue: .scope(.admin),
        AdminServiceMethod.resumeQueue: .scope(.admin),
        AdminServiceMethod.getUserLimit: .scope(.admin),
        AdminServiceMethod.listUserLimits: .scope(.admin),
        AdminServiceMethod.updateUserLimit: .scope(.admin),
        InfoServiceMethod.getServerInfo: .credentials,
        HealthMethod.check: .nothing,
        HealthMethod.watch: .nothing,
        ServerReflectionMethod.serverReflectionInfo: .credentials,
        ServerReflectionV1AlphaMethod.serverReflectionInfo: .credentials,
    ]
}
