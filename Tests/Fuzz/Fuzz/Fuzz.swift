import CLibFuzzer
import Glibc

/// libFuzzer on what reads a peer's bytes: `Fuzz NAME`, and libFuzzer's own arguments.
@main enum Fuzz {
    static func main() {
        guard chosen != nil else {
            print("usage: Fuzz frames|messages|metadata [libFuzzer's arguments]")
            exit(2)
        }
        // The name's place is the program's now.
        var (count, arguments) = (CommandLine.argc - 1, Optional(CommandLine.unsafeArgv + 1))
        exit(LLVMFuzzerRunDriver(&count, &arguments, fuzzOneInput))
    }
}

private let chosen: (@Sendable (UnsafeBufferPointer<UInt8>) -> Void)? =
    switch CommandLine.arguments.dropFirst().first {
    case "frames": fuzzFrames
    case "messages": fuzzMessages
    case "metadata": fuzzMetadata
    default: nil
    }

/// Under the name that libFuzzer's own main function asks for: a linker may take that one in although it is not used.
@_cdecl("LLVMFuzzerTestOneInput")
func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    chosen?(UnsafeBufferPointer(start: start, count: count))
    return 0
}
