"""Clients that flood: with resets of their own, resets that they provoke, frames that cost them nothing,
headers.

Every one of them comes back 10 ms after it was cut off, for as long as a phase lasts.
"""

from __future__ import annotations

import pytest
from attackers import FLOODS, PROVOKED_IN_STEPS, STEP
from hostile import Ends, flood, probe

#: Resets that a client may provoke at once (docs/architecture.md). With them go those of the step that is one too many,
#: and ten for each second in which the machine had something else to do.
RESETS = 100
RESETS_MAX = RESETS + 3 * STEP
ENHANCE_YOUR_CALM = "11"


def assert_calmed(ends: Ends) -> None:
    """Cut off for what it provoked, and neither sooner nor for anything else."""
    assert set(ends.codes) == {ENHANCE_YOUR_CALM}, ends
    assert RESETS * ends.codes[ENHANCE_YOUR_CALM] < ends.resets_seen <= RESETS_MAX * ends.connections, ends


@pytest.mark.parametrize("name", FLOODS)
def test_flood(cluster, record_property, name):
    with probe(name, cluster) as attacked:
        ends = flood(attacked, name)
        attacked.check(record_property)
        if name in PROVOKED_IN_STEPS:
            assert_calmed(ends)
