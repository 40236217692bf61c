"""Generates the stubs of the clients in clients/, but for Python's, which scripts/generate makes by grpcio-tools.

Each language is an entry of CLIENTS, with one function that writes its stubs. Tools of other versions write other
(equally good) code, so the stubs are made and compared only where the versions in `tools`, those of Debian 12 and
for Swift of its packages, are installed.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib import generate_typescript

ROOT = Path(__file__).resolve().parent.parent.parent

#: The service that clients call, below proto/: JobService, without the administration.
SERVICE = "signalbox/v1/job_service.proto"
API = ["signalbox/v1/job.proto", SERVICE]
#: For languages whose packages have no google.rpc.
GOOGLE_RPC = ["google/rpc/status.proto", "google/rpc/error_details.proto"]


@dataclass(frozen=True)
class Client:
    name: str
    #: A folder relative to the repository, which has generated files only.
    stubs: Path
    #: Writes into a folder what `stubs` is to contain. The second argument is the folders to import protos from.
    write: Callable[[Path, list[Path]], None]
    #: The programs that make the stubs, with their versions. Empty: the program does not print its version.
    tools: Mapping[str, str]

    def missing_tools(self) -> list[str]:
        """The programs that are not installed in the version of `tools`, with the version that is, for people."""
        return [
            f"{program} {version}".rstrip() + f" (found {found or 'none'})"
            for program, version in self.tools.items()
            if version != (found := version_of(program, asked=version != ""))
        ]


#: The folder into which `scripts/test clients swift` builds Swift's plugins, which no package of Debian has.
SWIFT_PLUGINS = ROOT / ".build/clients/swift/debug"


def find(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], str(SWIFT_PLUGINS)]))


def version_of(program: str, *, asked: bool) -> str | None:
    """The last word of what --version prints, or an empty text if it is not asked. None: it is not installed."""
    path = find(program)
    if path is None:
        return None
    if not asked:
        return ""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def run_protoc(includes: list[Path], arguments: list[str]) -> None:
    """Debian's protoc: its C++ and Java go with Debian's libraries, unlike those of grpcio-tools."""
    subprocess.run(["protoc", *(f"-I{folder}" for folder in includes), *arguments], check=True)


def write_go(out: Path, includes: list[Path]) -> None:
    """Package signalboxv1, which the module signalbox.example/api has in signalbox/v1."""
    module = "signalbox.example/api"
    # The module's folder is two above that of its one package.
    made = out / "made"
    made.mkdir(parents=True)
    outputs = [f"--{plugin}_out=module={module}:{made}" for plugin in ("go", "go-grpc")]
    run_protoc(includes, [*outputs, *API])
    for path in (made / "signalbox/v1").iterdir():
        path.rename(out / path.name)
    shutil.rmtree(made)


def write_cpp(out: Path, includes: list[Path]) -> None:
    """Headers and sources, included as signalbox/v1/….pb.h; google.rpc too, of which Debian has no headers."""
    out.mkdir(parents=True)
    plugin = shutil.which("grpc_cpp_plugin")
    run_protoc(includes, [f"--cpp_out={out}", *API, *GOOGLE_RPC])
    run_protoc(includes, [f"--grpc_out={out}", f"--plugin=protoc-gen-grpc={plugin}", SERVICE])


def write_java(out: Path, includes: list[Path]) -> None:
    """Package signalbox.v1, with a file for each message. Debian has google.rpc as a library."""
    out.mkdir(parents=True)
    plugin = shutil.which("grpc_java_plugin")
    run_protoc(
        includes, [f"--java_out={out}", f"--grpc-java_out={out}", f"--plugin=protoc-gen-grpc-java={plugin}", *API]
    )


def write_ruby(out: Path, includes: list[Path]) -> None:
    """Module Signalbox::V1, required as signalbox/v1/…_pb. Debian has google.rpc as a library."""
    out.mkdir(parents=True)
    plugin = shutil.which("grpc_ruby_plugin")
    run_protoc(includes, [f"--ruby_out={out}", f"--grpc_out={out}", f"--plugin=protoc-gen-grpc={plugin}", *API])
    for name in API:
        path = out / name.replace(".proto", "_pb.rb")
        path.write_text(with_serialized_descriptor(path.read_text(), descriptor(includes, name)))


def descriptor(includes: list[Path], name: str) -> bytes:
    """The serialised google.protobuf.FileDescriptorProto of a file."""
    from google.protobuf import descriptor_pb2

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "set.bin")
        run_protoc(includes, [f"--descriptor_set_out={path}", name])
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return file.SerializeToString(deterministic=True)


def with_serialized_descriptor(text: str, serialized: bytes) -> str:
    """Ruby's messages, described by bytes. google-protobuf 4 no longer has the calls by which protoc 3.21 describes
    them; newer versions of protoc write the bytes too."""
    encoded = textwrap.indent(base64.encodebytes(serialized).decode(), "  ")
    loaded = (
        f"descriptor = <<~BASE64.unpack1('m')\n{encoded}BASE64\n"
        "Google::Protobuf::DescriptorPool.generated_pool.add_serialized_file(descriptor)\n"
    )
    calls = r"^Google::Protobuf::DescriptorPool\.generated_pool\.build do\n.*?^end\n"
    text, count = re.subn(calls, lambda _: loaded, text, flags=re.DOTALL | re.MULTILINE)
    assert count == 1, "protoc's Ruby has another form than expected"
    return text


def write_typescript(out: Path, includes: list[Path]) -> None:
    """Modules that clients/typescript encodes and decodes messages by; see scripts/lib/generate_typescript."""
    from google.protobuf import descriptor_pb2

    files = [*API, "signalbox/v1/admin_service.proto", *GOOGLE_RPC]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "set.bin")
        options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={path}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{folder}" for folder in includes)]
        subprocess.run([*command, *options, *files], check=True)
        found = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    generate_typescript.write(out, found)


def write_swift(out: Path, includes: list[Path]) -> None:
    """Files in signalbox/v1. The types begin with Signalbox_V1_."""
    out.mkdir(parents=True)
    plugins = [f"--plugin={name}={find(name)}" for name in SWIFT_TOOLS]
    run_protoc(includes, [*plugins, f"--swift_out={out}", *API])
    run_protoc(includes, [*plugins, f"--grpc-swift-2_out={out}", "--grpc-swift-2_opt=Server=false", SERVICE])


SWIFT_TOOLS = {"protoc-gen-swift": "1.39.0", "protoc-gen-grpc-swift-2": "2.4.1"}
PROTOC = {"protoc": "3.21.12"}
CLIENTS = [
    Client(
        "go",
        Path("clients/go/signalbox/v1"),
        write_go,
        {**PROTOC, "protoc-gen-go": "v1.28.1", "protoc-gen-go-grpc": "1.0"},
    ),
    Client("cpp", Path("clients/cpp/generated"), write_cpp, {**PROTOC, "grpc_cpp_plugin": ""}),
    Client("java", Path("clients/java/generated"), write_java, {**PROTOC, "grpc_java_plugin": ""}),
    Client("ruby", Path("clients/ruby/lib"), write_ruby, {**PROTOC, "grpc_ruby_plugin": ""}),
    Client("swift", Path("clients/swift/Sources/Example/Generated"), write_swift, {**PROTOC, **SWIFT_TOOLS}),
    Client("typescript", Path("clients/typescript/src/generated"), write_typescript, {}),
]
