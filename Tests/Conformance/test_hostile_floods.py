"""Clients that flood: with resets of their own, resets that they provoke, frames that cost them nothing,
headers.

Every one of them comes back 10 ms after it was cut off, for as long as a phase lasts.
"""

from __future__ import annotations

import pytest
from attackers import FLOODS
from hostile import flood, probe


@pytest.mark.parametrize("name", FLOODS)
def test_flood(cluster, record_property, name):
    with probe(name, cluster) as attacked:
        flood(attacked, name)
        attacked.check(record_property)
