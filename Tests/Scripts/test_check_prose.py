"""scripts/check-prose finds a violation of each of its rules, and nothing where there is none."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/check-prose"


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("check_prose", str(SCRIPT))
    module = module_from_spec(spec_from_loader("check_prose", loader))
    loader.exec_module(module)
    return module


def check(script, folder: Path, name: str, text: str) -> list[str]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return script.check(folder)


SWIFT = "Sources/A/A.swift"
PYTHON = "clients/python/a.py"
PROTO = "proto/a/a.proto"
PAGE = "docs/a.md"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (SWIFT, "/// Sends it to whoever asks.\n", "A.swift:1: 'whoever'"),
        (SWIFT, 'throw Failure("the token is bad: nobody knows it")\n', "A.swift:1: 'nobody'"),
        (SWIFT, "let a = 1\n// It belongs to somebody else.\n", "A.swift:2: 'somebody'"),
        (SWIFT, "/// The search was in vain.\n", "A.swift:1: 'in vain'"),
        (SWIFT, 'case unasked = "none"\n', "A.swift:1: 'unasked'"),
        (SWIFT, "/// The caller is told once.\n", "A.swift:1: 'is told'"),
        (SWIFT, "/// A message of ours.\n", "A.swift:1: 'of ours'"),
        (PYTHON, '"""The watch was told."""\n', "a.py:1: 'was told'"),
        (PAGE, "# Page\n\nNobody may call it.\n", "a.md:3: 'Nobody'"),
        ("README.md", "Whoever calls it waits.\n", "README.md:1: 'Whoever'"),
        (SWIFT, "/// Of the last run.\nvar a = 1\n", "A.swift:1: a comment"),
        (SWIFT, "var a = 1  // What it sent.\n", "A.swift:1: a comment"),
        (SWIFT, "var a = 1\n// Who has called\n// it before.\n", "A.swift:2: a comment"),
        (PROTO, "// Whose job it is.\nmessage A {}\n", "a.proto:1: a comment"),
        (PYTHON, "#: What a call may name.\nA = 1\n", "a.py:1: a comment"),
        (SWIFT, "/// How long it waits.\nvar a = 1\n", "A.swift:1: a comment"),
        (PROTO, "// As in JobSpec.\nmessage A {}\n", "a.proto:1: a comment"),
        (SWIFT, f"    /// {'a' * 118}\nlet b = \"{'a' * 140}\"\n", "A.swift:1: a comment of 126 columns"),
        (PYTHON, 'def a():\n    """What came of it."""\n', "a.py:2: a comment"),
    ],
)
def test_a_violation_is_found(script, tmp_path, name, text, expected):
    found = check(script, tmp_path, name, text)
    assert len(found) == 1 and expected in found[0], found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        # Names in quotes, and the user of that name.
        (SWIFT, 'let a = find("nobody")  // The user `nobody`.\n'),
        (SWIFT, 'throw Failure("it belongs to the user nobody")\n'),
        (SWIFT, "let isNobody = told\n"),
        (SWIFT, "/// Two callers are told apart by their names.\n"),
        # A question, the middle of a comment, a parameter, and other words.
        (SWIFT, "/// What if the lease ends\n/// meanwhile? The run stops.\n"),
        (SWIFT, "/// The state is kept.\n/// What it means is said elsewhere.\n"),
        (SWIFT, "/// - Parameter a: what the caller sent.\n"),
        (SWIFT, "/// Whether it ended. Often it has not.\n"),
        (SWIFT, 'let a = "http://host/Of"\n'),
        (SWIFT, f"    /// {'é' * 117}\n"),
        (PYTHON, 'def a():\n    """Offers what is left."""\n'),
        # A heading may ask.
        (PAGE, "## What a caller may do\n"),
        # Not written by hand, or not prose of this project.
        ("Sources/A/Generated/A.swift", "/// Of whoever.\n"),
        ("clients/python/a_pb2.py", "# Of whoever.\n"),
        ("docs/conformance-results.md", "`told[unasked]`, nobody\n"),
        ("Sources/JobStore/Migrations/0001.sql", "-- Of whoever.\n"),
        ("Tests/A.swift", "/// Of whoever.\n"),
    ],
)
def test_what_is_allowed_is_not_found(script, tmp_path, name, text):
    assert check(script, tmp_path, name, text) == []


def test_both_rules_hold_on_one_line(script, tmp_path):
    assert len(check(script, tmp_path, SWIFT, "/// Of nobody.\n")) == 2
