"""The parts of the benchmark that need no server: goals, parsing, the table, the picture, the wire, what it starts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from bench import __main__ as bench  # noqa: E402
from bench import depth, flow, load, picture, results, server, wire  # noqa: E402
from bench.database import Database  # noqa: E402
from bench.processes import Failed, Unavailable  # noqa: E402
from bench.registry import MEASURES, Environment, Measure, guide, least, most  # noqa: E402
from bench.statistics_of import in_turns, percentile, ratio_of  # noqa: E402

H2LOAD = """\
finished in 3.00s, 151234.33 req/s, 4.5MB/s
requests: 453703 total, 453831 started, 453703 done, 453703 succeeded, {failed} failed, 0 errored, 0 timeout
status codes: 453703 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 11.45MB (12004560) total, 1.20MB (1200456) headers (space savings 95.00%), 3.03MB (3175921) data
"""


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Measure:
    goals = (least("ratio", 0.5, "× it"), most("p99_ms", 3, "ms"), guide("calls_per_s", 250_000, "calls/s"))
    item = Measure("example", "An example", goals, lambda env: {})
    monkeypatch.setitem(MEASURES, "example", item)
    return item


def found(item: Measure, outcome: results.Outcome) -> dict[str, object]:
    return json.loads(json.dumps({item.name: outcome.to_json(item.goals)}))


def test_goals_that_are_met_are_not_missed(example: Measure) -> None:
    outcome = results.Outcome({"ratio": 0.5, "p99_ms": 3.0, "calls_per_s": 1.0})
    assert results.missed({"example": outcome}) == []


def test_each_goal_missed_is_named_with_its_value(example: Measure) -> None:
    outcome = results.Outcome({"ratio": 0.25, "p99_ms": 4.0, "calls_per_s": 1.0})
    assert results.missed({"example": outcome}) == [
        "example: ratio is 0.25, not at least 0.5 × it",
        "example: p99_ms is 4, not at most 3 ms",
    ]


def test_what_was_skipped_is_missed(example: Measure) -> None:
    lines = results.missed({"example": results.Outcome({}, problem="skipped: h2load is not installed")})
    assert lines[0] == "example: ratio: skipped: h2load is not installed (goal: at least 0.5 × it)"
    assert len(lines) == 3


def test_not_a_number_is_missed(example: Measure) -> None:
    outcome = results.Outcome({"ratio": float("nan"), "p99_ms": 1.0, "calls_per_s": 1.0})
    assert len(results.missed({"example": outcome})) == 1


def test_a_measure_that_fails_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(env: Environment) -> dict[str, float]:
        raise Failed("no such luck")

    def lacks(env: Environment) -> dict[str, float]:
        raise Unavailable("h2load is not installed")

    measures = [Measure("one", "One", (), fails), Measure("two", "Two", (), lacks)]  # type: ignore[arg-type]
    outcomes = bench.run_all(measures, Environment(cluster=None, is_smoke=True))  # type: ignore[arg-type]
    assert outcomes["one"].problem == "failed: Failed: no such luck"
    assert outcomes["two"].problem == "skipped: h2load is not installed"


def test_the_table_has_a_line_a_goal(example: Measure) -> None:
    outcome = results.Outcome({"ratio": 0.25, "p99_ms": 1.5, "calls_per_s": 125_000.0})
    lines = results.table(found(example, outcome)).splitlines()
    assert lines[2:] == [
        "| An example | ratio | ≥ 0.5 × it | 0.25 | 0.50 | **missed** |",
        "|  | p99_ms | ≤ 3 ms | 1.5 | 2.00 | met |",
        "|  | calls_per_s | guide: ≥ 250,000 calls/s | 125,000 | 0.50 |  |",
    ]


def test_the_picture_has_a_bar_a_goal(example: Measure) -> None:
    outcome = results.Outcome({"ratio": 5.0, "calls_per_s": 1.0})
    text = picture.svg(found(example, outcome), "Ratios & goals")
    labels = [item.text for item in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    bars = ["example: ratio", "10.00", "example: p99_ms", "not measured", "example: calls_per_s (guide)", "0.00"]
    assert labels == ["Ratios & goals", "goal", *bars]


def test_the_page_keeps_what_is_around_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.write_page(page, "new")
    assert page.read_text() == f"before\n{results.BEGIN}\nnew\n{results.END}\nafter\n"


def test_the_pages_of_this_project_have_their_markers() -> None:
    for page in (bench.PAGE, bench.README):
        text = page.read_text()
        assert text.count(results.BEGIN) == text.count(results.END) == 1


def test_a_headline_says_what_was_found() -> None:
    drain = {"figures": {"jobs_per_s": 34_567.0, "ratio": 0.912}}
    lines = results.headlines({"drain": drain}).splitlines()
    assert "| Waiting jobs worked off, limits on | 34,600 jobs/s | 0.912 of plain SQL without limits |" in lines
    assert "| An idle watch | not measured | |" in lines
    assert [name for _, name, *_ in results.HEADLINES if name not in MEASURES] == []


def test_the_page_names_every_measure() -> None:
    text = bench.PAGE.read_text()
    assert [name for name in MEASURES if f"| `{name}` |" not in text] == []


def test_h2load_is_understood() -> None:
    assert load.parse_h2load(H2LOAD.format(failed=0)) == load.Calls(453703, 151234.33, 3175921)


def test_failed_calls_fail_the_measure() -> None:
    with pytest.raises(Failed):
        load.parse_h2load(H2LOAD.format(failed=1))


def test_a_port_is_not_waited_for_when_nothing_will_listen_on_it() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    process.wait(60)
    with pytest.raises(Failed, match="exit code 7"):
        load._wait_for_port(process, 1)


def test_the_growth_is_that_of_the_last_third() -> None:
    step = flow.Step(wanted=1000, calls_per_s=990, backlog=[500, 10, 12, 70, 72], seconds=6)
    assert step.growth_per_s == (71 - 11) / 2
    assert not step.is_sustained
    assert flow.Step(wanted=1000, calls_per_s=990, backlog=[500, 10, 12], seconds=6).is_sustained


@pytest.mark.parametrize("backlog", [[], [1.0], [1.0, 1.0]])
def test_a_rate_is_not_sustained_for_want_of_looks(backlog: list[float]) -> None:
    with pytest.raises(Failed, match="too few samples"):
        _ = flow.Step(wanted=1000, calls_per_s=1000, backlog=backlog, seconds=6).is_sustained


def test_it_looks_until_the_work_is_done() -> None:
    looked = threading.Event()

    def look() -> float:
        looked.set()
        return 1.5

    with server.looking(look, 0.001) as seen:
        assert looked.wait(60)
    assert set(seen) == {1.5}


def test_a_look_that_fails_fails_the_measure() -> None:
    looked = threading.Event()

    def look() -> float:
        looked.set()
        raise Failed("psql has ended")

    with pytest.raises(Failed, match="psql has ended"), server.looking(look, 0.001):
        assert looked.wait(60)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What is started for the server. Temporary folders are made in `folders`, beside it."""
    path = tmp_path / "signalbox"
    path.touch(0o755)
    (tmp_path / "folders").mkdir()
    monkeypatch.setattr(server, "BINARY", path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "folders"))
    return path


NOWHERE = Database.__new__(Database)
NOWHERE.url = "postgresql:///nowhere"


def test_a_server_that_does_not_serve_leaves_nothing(program: Path, tmp_path: Path) -> None:
    program.write_text("#!/bin/sh\necho 'no such database' >&2\nexit 1\n")
    with pytest.raises(Failed, match="did not start: no such database"), server.serving(NOWHERE):
        pass
    assert list((tmp_path / "folders").iterdir()) == []


def test_a_server_that_is_not_waited_for_any_longer_is_ended(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = []

    def ended(read: list[IO[str]], *_: object) -> None:
        pids.append(read[0].readline().strip())
        raise SystemExit(143)

    program.write_text("#!/bin/sh\necho $$\nexec tail -f /dev/null\n")
    monkeypatch.setattr(server.select, "select", ended)
    with pytest.raises(SystemExit), server.serving(NOWHERE):
        pass
    assert [Path("/proc", pid).exists() for pid in pids] == [False]
    assert list((tmp_path / "folders").iterdir()) == []


def test_a_server_has_no_settings_but_its_own(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_TOKEN", "sbx_of_somebody")
    monkeypatch.setenv("LANG", "C")
    program.write_text("#!/bin/sh\nenv >&2\necho 'signalbox: serving on 127.0.0.1:1'\nexec tail -f /dev/null\n")
    with server.serving(NOWHERE) as node:
        assert node.address == "127.0.0.1:1"
        assert "LANG=C\n" in node.log() and "SIGNALBOX_" not in node.log()


def test_claims_are_added_up_from_the_log() -> None:
    line = "2026-11-21 13:52:39.376 UTC [{}] LOG:  duration: {} ms  {}\n"
    log = "".join(
        line.format(*item)
        for item in [
            (7, "0.5", "bind lock_lanes_12: WITH RECURSIVE scan (lane, turn) AS ("),
            (8, "99", "execute finish_runs_6: WITH input AS ("),
            (7, "2.5", "execute lock_lanes_12: WITH RECURSIVE scan (lane, turn) AS ("),
            (7, "1", "bind claim_runs_14: WITH room AS MATERIALIZED ("),
            (7, "11", "execute claim_runs_14: WITH room AS MATERIALIZED ("),
            (7, "1", "execute commit_7: COMMIT"),
            # Nothing to claim from: no claim_runs.
            (7, "1", "execute lock_lanes_12: WITH RECURSIVE scan (lane, turn) AS ("),
            (7, "1", "execute commit_7: COMMIT"),
        ]
    )
    assert depth.claim_times(log) == [16.0]


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_percentiles_are_values_that_were_seen(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


def test_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return 1.0

    in_turns(2, a=lambda: side("a"), b=lambda: side("b"))
    assert order == ["a", "b", "a", "b"]


def test_the_ratio_is_that_of_neighbours() -> None:
    assert ratio_of([1, 20, 3], [1, 10, 1]) == 2


def test_a_frame_has_its_length_kind_flags_and_stream() -> None:
    assert wire.frame(wire.DATA, wire.END_STREAM, 5, b"abc") == b"\x00\x00\x03\x00\x01\x00\x00\x00\x05abc"


def test_messages_are_put_together_from_pieces() -> None:
    connection = wire.Connection.__new__(wire.Connection)
    connection._received, connection._partial, connection._ready = bytearray(), {}, []
    data = wire.message(b"one") + wire.message(b"two")
    stream = wire.frame(wire.DATA, 0, 3, data[:7]) + wire.frame(wire.DATA, wire.END_STREAM, 3, data[7:])
    for byte in stream:
        connection.feed(bytes([byte]))
    assert connection.take_ready() == [(3, b"one"), (3, b"two"), (3, None)]
