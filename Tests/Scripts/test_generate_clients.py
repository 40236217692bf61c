"""scripts/lib/generate_clients makes stubs only by the tools that it names, and says which of them are missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "scripts"))

from lib import generate_clients  # noqa: E402
from lib.generate_clients import Client  # noqa: E402


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A program that prints a version as protoc does."""
    path = tmp_path / "protoc-gen-test"
    path.write_text("#!/bin/sh\necho protoc-gen-test 1.2.3\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return path.name


def missing(**tools: str) -> list[str]:
    named = {name.replace("_", "-"): version for name, version in tools.items()}
    return Client("test", Path("clients/test"), lambda out, includes: None, named).missing_tools()


def test_a_tool_of_the_named_version_is_found(program: str):
    assert missing(protoc_gen_test="1.2.3") == []
    assert missing(protoc_gen_test="") == []


def test_another_version_and_a_missing_tool_are_named(program: str):
    assert missing(protoc_gen_test="1.2.4") == ["protoc-gen-test 1.2.4 (found 1.2.3)"]
    assert missing(protoc_gen_none="1.0", protoc_gen_absent="") == [
        "protoc-gen-none 1.0 (found none)",
        "protoc-gen-absent (found none)",
    ]


def test_each_client_has_a_folder_of_stubs_of_its_own():
    folders = [client.stubs for client in generate_clients.CLIENTS]
    assert len(set(folders)) == len(folders)
    for client in generate_clients.CLIENTS:
        assert client.stubs.is_relative_to(Path("clients", client.name)), "scripts/generate would delete other files"
        assert client.stubs != Path("clients", client.name)
        assert (ROOT / client.stubs).is_dir()


def test_each_language_has_an_example_and_a_page():
    folders = {path for path in (ROOT / "clients").iterdir() if path.is_dir()}
    assert ROOT / "clients/go" in folders
    for folder in folders:
        assert (folder / "README.md").is_file(), f"{folder.name} has no README.md"
