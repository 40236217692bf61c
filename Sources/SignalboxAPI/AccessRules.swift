import JobModel

/// What it takes to make a call.
enum AccessRule: Sendable, Hashable {
    /// Nothing: those that ask have no credentials, as a balancer's probe.
    case nothing
    /// Credentials, whatever they allow.
    case credentials
    case scope(Scope)
}

// exact in this file: the paths are our methods' own, not those that callers wrote.

/// The rule for each method. A method that is not here can be called by nobody.
enum AccessRules {
    static let byPath: [String: AccessRule] = {
        var rules: [String: AccessRule] = [:]
        func add(_ service: String, _ methods: [String], _ rule: AccessRule) {
            for method in methods { rules["/\(service)/\(method)"] = rule }
        }
        add("signalbox.v1.JobService", ["Enqueue", "EnqueueBatch", "Retry"], .scope(.enqueue))
        add("signalbox.v1.JobService", ["GetJob", "ListJobs", "Watch"], .scope(.read))
        add("signalbox.v1.JobService", ["Cancel"], .scope(.cancel))
        add(
            "signalbox.v1.AdminService",
            ["GetQueueStats", "ListNodes", "PauseQueue", "ResumeQueue", "SetUserLimit", "GetUserLimit"],
            .scope(.admin))
        add("grpc.health.v1.Health", ["Check", "Watch"], .nothing)
        add("grpc.reflection.v1.ServerReflection", ["ServerReflectionInfo"], .credentials)
        add("grpc.reflection.v1alpha.ServerReflection", ["ServerReflectionInfo"], .credentials)
        return rules
    }()
}
