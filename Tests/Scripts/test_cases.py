"""scripts/lib/cases reads reports as the runners write them, and generates the page of results."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts/lib/cases"
WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
REPORT = """\
<testsuites><testsuite name="pytest">
  <testcase classname="test_things" name="test_one[tls-a|b]">
    <properties><property name="figures" value="2 | 3" /></properties>
  </testcase>
  <testcase classname="test_things" name="test_two"><failure message="assert 1 == 2&#10; +  where">…</failure></testcase>
  <testcase classname="test_things" name="test_two"><error message="teardown">…</error></testcase>
  <testcase classname="test_others" name="test_three"><error message="no server">…</error></testcase>
  <testcase classname="test_others.TestMore" name="test_four"><skipped message="not here">…</skipped></testcase>
</testsuite></testsuites>
"""


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("cases", str(SCRIPT))
    module = module_from_spec(spec_from_loader("cases", loader))
    # Where dataclasses look for the types of their fields.
    sys.modules["cases"] = module
    loader.exec_module(module)
    return module


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "suite.xml").write_text(REPORT)
    (tmp_path / "broken.xml").write_text("<testsuites>")
    (tmp_path / "suite.status").write_text("1\n")
    return tmp_path


def test_each_case_is_there_once(script, reports):
    found = {(case.group, case.name): (case.result, case.text) for case in script.read(reports)}
    assert found == {
        ("test_things", "one[tls-a|b]"): ("passed", "2 | 3"),
        ("test_things", "two"): ("failed", "assert 1 == 2 + where"),
        ("test_others", "three"): ("failed", "no server"),
        ("test_others", "TestMore: four"): ("skipped", "not here"),
    }
    assert len(script.read(reports)) == 4


def test_a_section(script, reports):
    cases = [case for case in script.read(reports) if case.group == "test_things"]
    text = script.section("test_things", cases, WHEN, "abc")
    assert text.startswith("## Things: 1 passed, 1 failed\nRun on 2026-01-02 03:04 UTC at commit `abc`.\n")
    assert "\n| `one[tls-a\\|b]` | passed: 2 \\| 3 |\n" in text
    assert text.endswith("\n| `two` | **failed** assert 1 == 2 + where |")


def test_what_was_not_run_stays_and_what_is_gone_goes(script, reports):
    kept = "## Hostile fuzz: 1 passed\nas it was"
    old = f"# Old heading\n\n{kept}\n\n## Gone: 1 passed\nx\n\n## Things: 3 passed\nold\n"
    text = script.update(old, script.read(reports), WHEN, "abc")
    assert text.startswith(f"{script.HEADING}\n{kept}\n\n## Others: 0 passed, 1 failed, 1 skipped\n")
    assert "\n## Things: 1 passed, 1 failed\n" in text
    assert "Gone" not in text and "old" not in text and "Old" not in text


def test_a_page_without_changes_stays_as_it_is(script):
    page = (ROOT / "docs/conformance-results.md").read_text()
    assert script.update(page, [], WHEN, "abc") == page


def run(script, monkeypatch, reports: Path) -> Path:
    page = reports / "page.md"
    page.write_text("# Results\n\n## Things: 3 passed\nold\n")
    monkeypatch.setattr("sys.argv", ["cases", str(reports), str(page)])
    return page


def test_the_page_has_the_last_whole_run(script, reports, monkeypatch, capsys):
    page = run(script, monkeypatch, reports)
    script.main()
    assert "old" not in page.read_text() and "## Others: 0 passed, 1 failed, 1 skipped" in page.read_text()
    assert "failed  test_things two\n" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["2", "124"])
def test_a_run_that_was_cut_short_leaves_the_page_as_it_is(script, reports, monkeypatch, status):
    (reports / "suite.status").write_text(status)
    page = run(script, monkeypatch, reports)
    with pytest.raises(SystemExit) as ending:
        script.main()
    assert ending.value.code == 3 and "old" in page.read_text()


def test_a_page_that_is_not_there_is_made(script, reports, monkeypatch):
    page = run(script, monkeypatch, reports)
    page.unlink()
    script.main()
    assert page.read_text().startswith(script.HEADING)


def test_a_page_that_cannot_be_written_has_another_exit_code(reports):
    done = subprocess.run([sys.executable, SCRIPT, reports, reports / "nowhere/page.md"], capture_output=True)
    assert done.returncode == 1


def test_the_table_of_the_page_for_people_agrees_with_the_results(script):
    """docs/conformance.md is written by hand: after a run with other counts its table has to be brought up to date."""
    text = (ROOT / "docs/conformance.md").read_text()
    assert len(text.splitlines()) <= 80
    results = {}
    for name, passed, failed in re.findall(
        r"(?m)^## (.+): (\d+) passed, (\d+) failed", (ROOT / "docs/conformance-results.md").read_text()
    ):
        results["test_" + name.lower().replace(" ", "_")] = int(passed) + int(failed), int(failed)
    assert results
    rows = re.findall(r"(?m)^\| (`test_[^|]*) \|[^|]*\| ([\d,]+) \| ([\d,]+) \|$", text)
    seen = []
    for files, cases, failed in rows:
        patterns = re.findall(r"`([^`]+)`", files)
        matched = [name for name in results if any(fnmatch(name, pattern) for pattern in patterns)]
        seen += matched
        counted = tuple(sum(column) for column in zip(*(results[name] for name in matched)))
        assert (int(cases.replace(",", "")), int(failed.replace(",", ""))) == counted, files
    assert sorted(seen) == sorted(results)
