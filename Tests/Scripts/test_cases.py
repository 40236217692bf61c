"""scripts/lib/cases reads reports as the runners write them, and puts the results into a page."""

from __future__ import annotations

import datetime
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts/lib/cases"
WHEN = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
REPORT = """\
<testsuites><testsuite name="pytest">
  <testcase classname="test_things" name="test_one[tls-a|b]" />
  <testcase classname="test_things" name="test_two"><failure message="assert 1 == 2&#10; +  where">…</failure></testcase>
  <testcase classname="test_things" name="test_two"><error message="teardown">…</error></testcase>
  <testcase classname="test_others" name="test_three"><error message="no server">…</error></testcase>
  <testcase classname="test_others" name="test_four"><skipped message="not here">…</skipped></testcase>
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
    found = {(case.group, case.name): (case.result, case.problem) for case in script.read(reports)}
    assert found == {
        ("test_things", "one[tls-a|b]"): ("passed", ""),
        ("test_things", "two"): ("failed", "assert 1 == 2 + where"),
        ("test_others", "three"): ("failed", "no server"),
        ("test_others", "four"): ("skipped", "not here"),
    }
    assert len(script.read(reports)) == 4


def test_the_table(script, reports):
    text = script.table(script.read(reports), WHEN, "abc")
    assert text.startswith("Run on 2026-01-02 03:04 UTC at commit `abc`: 1 passed, 2 failed, 1 skipped.\n")
    assert "\n### Things: 1 passed, 1 failed\n" in text
    assert "\n| `one[tls-a\\|b]` | passed |\n" in text
    assert "\n| `two` | **failed** assert 1 == 2 + where |\n" in text


def test_only_what_is_between_the_markers_is_replaced(script):
    page = f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n"
    assert script.replace(page, "new") == f"before\n{script.BEGIN}\nnew\n{script.END}\nafter\n"
    with pytest.raises(SystemExit):
        script.replace("a page without markers", "new")


def run(script, monkeypatch, reports: Path) -> Path:
    page = reports / "page.md"
    page.write_text(f"{script.BEGIN}\nold\n{script.END}\n")
    monkeypatch.setattr("sys.argv", ["cases", str(reports), str(page)])
    return page


def test_the_page_has_the_last_whole_run(script, reports, monkeypatch, capsys):
    page = run(script, monkeypatch, reports)
    script.main()
    assert "old" not in page.read_text() and "### Others: 0 passed, 1 failed, 1 skipped" in page.read_text()
    assert "failed  test_things two\n" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["2", "124"])
def test_a_run_that_was_cut_short_leaves_the_page_as_it_is(script, reports, monkeypatch, status):
    (reports / "suite.status").write_text(status)
    page = run(script, monkeypatch, reports)
    with pytest.raises(SystemExit):
        script.main()
    assert "old" in page.read_text()
