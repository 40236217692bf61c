// swift-tools-version: 6.2
import PackageDescription

/// Language mode 6 with the upcoming features that make imports and existentials explicit.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// For the targets that call C: every unsafe expression is marked `unsafe`.
let settingsCallingC = settings + [.strictMemorySafety()]

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "Metrics", package: "swift-metrics")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "signalbox",
    products: [
        .executable(name: "signalbox", targets: ["SignalboxCommand"]),
        .executable(name: "signalbox-dialogue", targets: ["DialogueServer"]),
        .library(name: "Signalbox", targets: ["Signalbox"]),
        .library(name: "SignalboxClient", targets: ["SignalboxClient"]),
        .library(name: "SignalboxTesting", targets: ["SignalboxTesting"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-asn1", from: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/vapor/jwt-kit", from: "5.7.1"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // C libraries of the system.
        .systemLibrary(name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "CPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(
            name: "CProtobufC", pkgConfig: "libprotobuf-c", providers: [.apt(["libprotobuf-c-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),

        // Needed everywhere, and knows nothing of jobs.
        .target(name: "Support", swiftSettings: settings),

        // Threads of the system, for code that blocks.
        .target(name: "Threads", dependencies: [deque], swiftSettings: settingsCallingC),

        // Files that may change while a process runs.
        .target(name: "SystemFiles", swiftSettings: settings),

        // YAML files that people write, with the lines of what is wrong in them.
        .target(
            name: "LocatedYAML", dependencies: [.product(name: "Yams", package: "Yams")],
            swiftSettings: settings),

        // The wire: messages, HTTP/2, gRPC.
        .target(name: "CSignalboxProto", dependencies: ["CProtobufC"]),
        .target(
            name: "SignalboxProto",
            dependencies: ["CSignalboxProto", "CProtobufC", "JobModel", "Support", nioCore],
            swiftSettings: settingsCallingC),
        .target(
            name: "HTTP2", dependencies: ["CNGHTTP2", "Support", nioCore], swiftSettings: settingsCallingC),
        .target(
            name: "MessageCompression", dependencies: ["CZlib", nioCore], swiftSettings: settingsCallingC),
        .target(
            name: "GRPC",
            dependencies: [
                "HTTP2", "MessageCompression", "Support", "SystemFiles", nioCore, nioPosix,
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"), logging,
            ],
            swiftSettings: settings),

        // The database.
        .target(
            name: "Postgres", dependencies: ["CPQ", "Support", "Threads", deque, logging],
            swiftSettings: settingsCallingC),
        .target(
            name: "EmbeddedPostgres", dependencies: ["Postgres", logging, subprocess],
            swiftSettings: settingsCallingC),

        // A call of the system that Swift cannot make.
        .target(name: "CProcess"),

        // The service.
        .target(name: "JobModel", dependencies: ["Support"], swiftSettings: settings),
        .target(
            name: "Authentication",
            dependencies: [
                "JobModel", "LocatedYAML", "Support", "SystemFiles", "Threads", crypto, logging, nioCore,
                nioPosix,
                .product(name: "JWTKit", package: "jwt-kit"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
                .product(name: "X509", package: "swift-certificates"),
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings),
        .target(
            name: "JobStore",
            dependencies: ["JobModel", "Postgres", "Support", crypto, deque, logging],
            resources: [
                .embedInCode("Migrations/0001_jobs.sql"), .embedInCode("Migrations/0002_second_place.sql"),
                .embedInCode("Migrations/0003_live_of_a_lane.sql"),
                .embedInCode("Migrations/0004_change_arrays.sql"),
                .embedInCode("Migrations/0005_audit.sql"),
                .embedInCode("Migrations/0006_audit_source.sql"), .embedInCode("Migrations/0007_secret.sql"),
                .embedInCode("Migrations/0008_constraint_names.sql"),
                .embedInCode("Migrations/0009_attempts.sql"),
                .embedInCode("Migrations/0010_lane_user_limit.sql"),
            ],
            swiftSettings: settings),
        .target(
            name: "JobWatch", dependencies: ["JobModel", "JobStore", "Support", crypto, deque, logging],
            swiftSettings: settings),
        .target(
            name: "JobEngine",
            dependencies: ["JobModel", "Support", logging, metrics, nioPosix, subprocess],
            swiftSettings: settings),
        .target(
            name: "JobService", dependencies: ["JobModel", "JobStore", "JobWatch", "Support", crypto],
            swiftSettings: settings),
        .target(
            name: "SignalboxAPI",
            dependencies: [
                "Authentication", "JobModel", "JobService", "SignalboxProto", "GRPC", "Support", logging,
                metrics, nioCore,
            ],
            swiftSettings: settings),
        .target(
            name: "Settings",
            dependencies: [
                "Authentication", "GRPC", "JobEngine", "JobModel", "LocatedYAML", "Support", argumentParser,
                .product(name: "Yams", package: "Yams"),
            ],
            swiftSettings: settings),

        // What others use: the library to embed, the program.
        .target(name: "SignalboxJobs", dependencies: ["JobModel", "Support"], swiftSettings: settings),
        .target(
            name: "SignalboxClient",
            dependencies: [
                "GRPC", "JobModel", "SignalboxJobs", "SignalboxProto", "Support", logging, nioCore,
            ],
            swiftSettings: settings),
        .target(
            name: "Signalbox",
            dependencies: [
                "Authentication", "CProcess", "SignalboxAPI", "JobModel", "JobService", "JobWatch",
                "JobStore", "JobEngine", "Postgres", "EmbeddedPostgres", "GRPC", "Settings",
                "SignalboxJobs", "Support", "Threads", logging, nioPosix,
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings),
        .target(
            name: "SignalboxTesting",
            dependencies: ["JobEngine", "JobModel", "Signalbox", "SignalboxJobs", "Support", logging],
            swiftSettings: settings),
        .target(
            name: "ClientCommands",
            dependencies: [
                "JobModel", "SignalboxClient", "SignalboxProto", "GRPC", "Settings", "Support",
                argumentParser, nioCore, nioPosix, logging,
            ],
            swiftSettings: settingsCallingC),
        .executableTarget(
            name: "SignalboxCommand",
            dependencies: [
                "Authentication", "ClientCommands", "JobModel", "Signalbox", "Support", argumentParser,
            ],
            swiftSettings: settings),

        // An example: dialogues spoken aloud.
        .target(
            name: "Dialogue",
            dependencies: [crypto, nioPosix, subprocess], path: "Examples/Dialogue",
            swiftSettings: settings),
        .executableTarget(
            name: "DialogueServer", dependencies: ["Dialogue", "Signalbox", logging],
            path: "Examples/DialogueServer",
            swiftSettings: settings),

        // Tests.
        .target(name: "TestRandom", path: "Tests/TestRandom", swiftSettings: settings),
        .target(
            name: "TestDatabase", dependencies: ["Postgres", "Threads", logging], path: "Tests/TestDatabase",
            swiftSettings: settings),
        .target(
            name: "ModelStore", dependencies: ["JobModel", "Support"], path: "Tests/ModelStore",
            swiftSettings: settings),
        .target(
            name: "Simulation",
            dependencies: ["JobEngine", "JobModel", "ModelStore", "TestRandom", "Support", logging],
            path: "Tests/Simulation", swiftSettings: settings),
        .executableTarget(
            name: "Simulate", dependencies: ["ModelStore", "Simulation", argumentParser],
            path: "Tests/Simulate",
            swiftSettings: settings),
        .executableTarget(
            name: "InteropServer",
            dependencies: [
                "MessageCompression", "GRPC", argumentParser, logging, nioCore, nioPosix,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            path: "Tests/InteropServer", swiftSettings: settings),
        .testTarget(
            name: "SupportTests", dependencies: ["Support", "TestRandom"], swiftSettings: settings),
        .testTarget(name: "SystemFilesTests", dependencies: ["SystemFiles"], swiftSettings: settings),
        .testTarget(name: "ThreadsTests", dependencies: ["Threads"], swiftSettings: settings),
        .testTarget(
            name: "HTTP2Tests", dependencies: ["HTTP2", "TestRandom", "Support", nioCore],
            swiftSettings: settings),
        .testTarget(
            name: "MessageCompressionTests", dependencies: ["MessageCompression", "TestRandom", nioCore],
            swiftSettings: settings),
        .testTarget(
            name: "GRPCTests",
            dependencies: [
                "GRPC", "HTTP2", "MessageCompression", "TestRandom", "Support", nioCore, nioPosix,
                .product(name: "NIOEmbedded", package: "swift-nio"), logging,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "SignalboxProtoTests",
            dependencies: [
                "SignalboxProto", "CSignalboxProto", "CProtobufC", "JobModel", "TestRandom", "Support",
                nioCore,
            ],
            exclude: ["capture.py", "json_cases.py", "json_cases.jsonl"], swiftSettings: settings),
        .testTarget(
            name: "PostgresTests", dependencies: ["Postgres", "TestDatabase", logging],
            swiftSettings: settings),
        .testTarget(
            name: "EmbeddedPostgresTests", dependencies: ["EmbeddedPostgres", "Postgres", logging],
            swiftSettings: settings),
        .testTarget(
            name: "JobModelTests", dependencies: ["JobModel", "TestRandom", "Support"],
            swiftSettings: settings),
        .testTarget(
            name: "AuthenticationTests",
            dependencies: [
                "Authentication", "JobModel", "Support", crypto, logging, nioCore, nioPosix,
                .product(name: "CryptoExtras", package: "swift-crypto"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "SwiftASN1", package: "swift-asn1"),
                .product(name: "X509", package: "swift-certificates"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "JobStoreTests",
            dependencies: ["JobStore", "JobModel", "Postgres", "TestDatabase", "Support", logging],
            swiftSettings: settings),
        .testTarget(
            name: "EngineStoreContractTests",
            dependencies: [
                "JobModel", "JobStore", "ModelStore", "Postgres", "TestDatabase", "TestRandom", "Support",
            ],
            swiftSettings: settings),
        .testTarget(
            name: "SimulationTests", dependencies: ["JobModel", "ModelStore", "Simulation", "Threads"],
            swiftSettings: settings),
        .testTarget(
            name: "SignalboxTests",
            dependencies: [
                "Authentication", "GRPC", "JobModel", "JobStore", "JobEngine", "JobWatch", "Postgres",
                "Settings",
                "Signalbox", "SignalboxClient", "SignalboxJobs", "TestDatabase", "Support", logging,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "SignalboxClientTests",
            dependencies: [
                "GRPC", "JobModel", "SignalboxClient", "SignalboxJobs", "SignalboxProto", "Support", logging,
                nioCore,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "SignalboxTestingTests", dependencies: ["SignalboxTesting"], swiftSettings: settings),
        .testTarget(
            name: "SignalboxAPITests",
            dependencies: [
                "Authentication", "SignalboxAPI", "JobModel", "JobService", "JobWatch", "SignalboxProto",
                "JobStore", "Postgres", "GRPC", "TestDatabase", "Support", logging, nioCore,
                .product(name: "MetricsTestKit", package: "swift-metrics"),
            ],
            swiftSettings: settings),
        .testTarget(
            name: "JobServiceTests",
            dependencies: [
                "JobModel", "JobService", "JobStore", "JobWatch", "Postgres", "TestDatabase", "Support",
                logging,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "JobWatchTests",
            dependencies: [
                "JobWatch", "JobStore", "JobModel", "Postgres", "TestDatabase", "TestRandom", "Support",
                logging,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "JobEngineTests",
            dependencies: [
                "JobModel", "JobStore", "JobEngine", "Postgres", "TestDatabase", "Support", logging,
                subprocess,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "SettingsTests",
            dependencies: ["Authentication", "GRPC", "JobEngine", "JobModel", "Settings", "Support"],
            swiftSettings: settings),
        .testTarget(
            name: "ClientCommandsTests",
            dependencies: [
                "ClientCommands", "JobModel", "SignalboxClient", "SignalboxProto", "GRPC", "Settings",
                "Support", argumentParser, logging, nioCore,
            ],
            swiftSettings: settings),
        .testTarget(name: "DialogueTests", dependencies: ["Dialogue", subprocess], swiftSettings: settings),
    ]
)

// Linked with libFuzzer: only where the tests of conformance ask for it.
if Context.environment["SIGNALBOX_FUZZ"] != nil {
    package.targets.append(.systemLibrary(name: "CLibFuzzer", path: "Tests/Fuzz/CLibFuzzer"))
    package.targets.append(
        .executableTarget(
            name: "Fuzz",
            dependencies: [
                "CLibFuzzer", "HTTP2", "JobModel", "SignalboxProto", "MessageCompression", "GRPC", "Support",
                nioCore,
            ],
            path: "Tests/Fuzz/Fuzz",
            swiftSettings: settings,
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])]))
}
