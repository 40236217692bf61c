"""The messages that MessageJSONTests.swift compares are those that json_cases.py writes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "SignalboxProtoTests"))

import json_cases  # noqa: E402


def test_the_cases_are_current():
    assert json_cases.TARGET.read_text() == json_cases.cases(), "run Tests/SignalboxProtoTests/json_cases.py"
