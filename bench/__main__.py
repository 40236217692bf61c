"""Runs measures, writes what they found, and says which goals are missed."""

from __future__ import annotations

import argparse
import datetime
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from . import picture, results
from .database import Cluster
from .processes import Unavailable
from .registry import MEASURES, Environment, Measure
from .results import Outcome
from .server import BINARY, ROOT

# Importing them registers their measures, in this order.
from . import throughput, drain, flow, latency, watching, depth  # noqa: F401  # isort: skip

FOLDER = ROOT / "bench/results"
PAGE = ROOT / "docs/performance.md"
README = ROOT / "README.md"
PICTURE = ROOT / "docs/performance.svg"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"measures (default: all): {', '.join(MEASURES)}")
    parser.add_argument("--check", action="store_true", help="list every missed goal, and fail if there is one")
    parser.add_argument(
        "--smoke", action="store_true", help="run every measure at a tiny size, to see that it works, and write nothing"
    )
    parser.add_argument("--long", action="store_true", help="also run the measures that take tens of minutes")
    parser.add_argument("--output", type=Path, help="write only the JSON, to this file")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in MEASURES]:
        parser.error(f"unknown measure: {', '.join(unknown)} (known: {', '.join(MEASURES)})")
    if chosen.smoke and chosen.check:
        parser.error("--smoke cannot be combined with --check, because it measures nothing")
    return chosen


def wanted(chosen: argparse.Namespace) -> list[Measure]:
    if chosen.names:
        return [MEASURES[name] for name in MEASURES if name in chosen.names]
    return [item for item in MEASURES.values() if chosen.long or chosen.smoke or not item.is_long]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run_one(item: Measure, env: Environment) -> Outcome:
    begin = time.monotonic()
    try:
        outcome = Outcome(item.run(env))
        env.earlier[item.name] = outcome.figures
    except Unavailable as reason:
        outcome = Outcome({}, problem=f"skipped: {reason}")
    except Exception as error:  # The other measures still count.
        if not env.is_smoke:
            traceback.print_exc()
        outcome = Outcome({}, problem=f"failed: {type(error).__name__}: {error}"[:600])
    outcome.seconds = time.monotonic() - begin
    return outcome


def run_all(measures: list[Measure], env: Environment) -> dict[str, Outcome]:
    outcomes = {}
    for item in measures:
        say(f"== {item.name}: {item.title}")
        outcome = outcomes[item.name] = run_one(item, env)
        if outcome.problem:
            say(f"   {outcome.problem}")
        for name, value in results.rounded(outcome.figures).items():
            say(f"   {name}: {value}")
        say(f"   ({outcome.seconds:.1f} s)")
    return outcomes


def report(found: dict[str, Any]) -> str:
    place = found["machine"]
    return (
        f"Measured on {found['date']} at commit `{found['commit']}`: {place['cores']} cores ({place['cpu']}), "
        f"Postgres {found['postgres']}.\n\n"
        f"![Each measure's ratio to its goal](performance.svg)\n\n"
        f"{results.table(found['measures'])}\nFigures without a goal:\n\n{results.others(found['measures'])}"
    )


def main() -> int:
    chosen = arguments()
    # A thousand connections need more files than a shell allows.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    cluster = Cluster()
    try:
        version = cluster.version()
        outcomes = run_all(wanted(chosen), Environment(cluster, chosen.smoke, chosen.long))
    finally:
        cluster.close()
    now = datetime.datetime.now(datetime.timezone.utc)
    found: dict[str, Any] = {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "commit": results.commit(ROOT),
        "binary_sha256": results.digest(BINARY) if BINARY.exists() else "none",
        "machine": results.machine(),
        "postgres": version,
        "seconds": round(time.monotonic() - begin),
        "measures": {name: outcome.to_json(MEASURES[name].goals) for name, outcome in outcomes.items()},
    }
    say(f"== {found['seconds']} s in all")
    if chosen.smoke:
        failed = [name for name, outcome in outcomes.items() if outcome.problem.startswith("failed")]
        say(f"failed: {', '.join(failed)}" if failed else "every measure ran, or was skipped")
        return 1 if failed else 0
    print(results.table(found["measures"]))
    # Single measures do not replace a whole run's.
    if chosen.output:
        results.dump(chosen.output, found)
    elif not chosen.names:
        results.dump(FOLDER / f"{now:%Y-%m-%d}.json", found)
        PICTURE.write_text(picture.svg(found["measures"], f"Signalbox, ratio to each goal, {now:%Y-%m-%d}"))
        results.write_page(PAGE, report(found))
        results.write_page(README, results.headlines(found["measures"]))
    if not chosen.check:
        return 0
    lines = results.missed(outcomes)
    for line in lines:
        print(f"missed: {line}")
    print(f"goals missed: {len(lines)}" if lines else "every goal is met")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
