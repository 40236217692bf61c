"""The Python client's stubs run with the oldest libraries that its dependencies allow, beside other packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parent.parent.parent / "clients/python"
STUBS = CLIENT / "src/signalbox/v1"


def oldest(package: str) -> tuple[int, ...]:
    """The oldest version of a package that the client's dependencies allow."""
    dependencies = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]["dependencies"]
    (found,) = (match for item in dependencies if (match := re.match(rf"{package}>=([\d.]+)", item)))
    return tuple(int(part) for part in found[1].split("."))


@pytest.mark.parametrize(
    ("files", "version", "package"),
    [
        ("*_pb2.py", r"# Protobuf Python Version: ([\d.]+)", "protobuf"),
        ("*_pb2_grpc.py", r"GRPC_GENERATED_VERSION = '([\d.]+)'", "grpcio"),
    ],
)
def test_no_stub_needs_a_newer_library_than_the_oldest_that_is_allowed(files, version, package):
    stubs = sorted(STUBS.glob(files))
    assert stubs
    for stub in stubs:
        needed = tuple(int(part) for part in re.search(version, stub.read_text())[1].split("."))
        assert needed <= oldest(package), stub.name


def test_the_package_has_no_definitions_of_others():
    """Two packages in one process cannot both define a file such as google/rpc/status.proto."""
    stubs = sorted((CLIENT / "src").rglob("*_pb2.py"))
    assert stubs and {stub.parent for stub in stubs} == {STUBS}
    for stub in stubs:
        assert re.search(r"^# source: signalbox/v1/\w+\.proto$", stub.read_text(), flags=re.MULTILINE), stub.name
