"""docs/reliability.md names tests and rules of the simulation that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def named() -> list[str]:
    page = (ROOT / "docs/reliability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[2])]


def test_each_named_test_exists():
    names = named()
    assert len(names) > 40
    found = set()
    for path in (ROOT / "Tests").rglob("*"):
        if path.suffix in (".swift", ".py"):
            found.update(re.findall(r"\b(?:func|def|case) (\w+)", path.read_text()))
    assert [name for name in names if name not in found] == []
