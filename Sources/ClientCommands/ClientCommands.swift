package import ArgumentParser

/// The commands that talk to a running server, in the order in which the help lists them.
package let clientCommands: [any ParsableCommand.Type] = [
    EnqueueCommand.self, WatchCommand.self, CancelCommand.self, RetryCommand.self, GetCommand.self,
    AttemptsCommand.self, LogCommand.self, ListCommand.self, StatsCommand.self, LimitsCommand.self,
    QueueCommand.self, NodesCommand.self,
    ServerInfoCommand.self, HealthCommand.self,
]

/// The exit codes, for the program's help.
package let exitCodesHelp = """
    Exit codes: 0 done; 1 the job failed or was cancelled (watch, enqueue --watch); 3 not found; \
    4 the server cannot be reached, does not answer in time, or is not serving; 5 the server refuses; \
    64 wrong usage.
    """
