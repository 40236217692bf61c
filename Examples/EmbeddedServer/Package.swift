// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "embedded-server",
    dependencies: [
        // In a package of your own: .package(url: "…/signalbox", from: "…").
        .package(name: "signalbox", path: "../.."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .executableTarget(
            name: "EmbeddedServer",
            dependencies: [
                .product(name: "Signalbox", package: "signalbox"),
                .product(name: "Logging", package: "swift-log"),
            ]),
        .executableTarget(
            name: "RemoteClient",
            dependencies: [.product(name: "SignalboxClient", package: "signalbox")]),
        .testTarget(
            name: "EmbeddedServerTests",
            dependencies: ["EmbeddedServer", .product(name: "SignalboxTesting", package: "signalbox")]),
    ]
)
