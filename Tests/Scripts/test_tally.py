"""scripts/lib/tally adds up what the runners report, and takes nothing for passed that was not seen to pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/lib/tally"
PASSED = '<testcase classname="test_things" name="test_one" />'
FAILED = '<testcase classname="test_things" name="test_two"><failure message="assert 1 == 2" /></testcase>'
BROKEN = '<testcase classname="test_things" name="test_three"><error message="no server" /></testcase>'
SKIPPED = '<testcase classname="test_things" name="test_four"><skipped message="not here" /></testcase>'


def report(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


@pytest.mark.parametrize(
    ("files", "code", "printed"),
    [
        (
            {"checks": "0 format\n0 two words\n", "a.xml": report(PASSED), "a.status": "0\n"},
            0,
            ["3 passed, 0 failed"],
        ),
        (
            {"checks": "0 format\n1 two words\n"},
            1,
            ["failed: two words", "1 passed, 1 failed"],
        ),
        (
            {"a.xml": report(PASSED, FAILED, BROKEN), "a.status": "1"},
            1,
            ["failed: test_things test_two", "failed: test_things test_three", "1 passed, 2 failed"],
        ),
        (
            {"a.xml": report(PASSED, SKIPPED), "a.status": "0"},
            1,
            ["skipped: test_things test_four", "1 passed, 0 failed, 1 skipped"],
        ),
        (
            {"a.xml": report(FAILED, SKIPPED), "a.status": "1"},
            1,
            ["failed: test_things test_two", "skipped: test_things test_four", "0 passed, 1 failed, 1 skipped"],
        ),
        # Swift's runner writes two reports.
        (
            {"a.xml": report(), "a-swift-testing.xml": report(PASSED, PASSED), "a.status": "0"},
            0,
            ["2 passed, 0 failed"],
        ),
        # The name of one suite may begin with that of another.
        (
            {"a.xml": report(PASSED), "a.status": "0", "ab.xml": report(PASSED), "ab.status": "0"},
            0,
            ["2 passed, 0 failed"],
        ),
        ({"a.xml": report(PASSED), "a.status": "124"}, 1, ["failed: a (exit code 124)", "1 passed, 1 failed"]),
        ({"a.xml": "<testsuites>", "a.status": "0"}, 1, ["failed: a ran no test", "0 passed, 1 failed"]),
        ({}, 1, ["failed: no test ran", "0 passed, 1 failed"]),
    ],
)
def test_what_is_printed(tmp_path: Path, files: dict[str, str], code: int, printed: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (code, printed)
