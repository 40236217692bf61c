"""Writes what was tested into the table of docs/clients.md: a row for each language, a column for each test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from languages import LANGUAGES, Language

#: The tests that are run for each language, and the columns that have their results.
COLUMNS = {
    "test_a_job_is_watched_to_its_end": "watch",
    "test_a_large_job_is_read": "watch",
    "test_a_result_need_not_be_text": "watch",
    "test_a_job_is_cancelled": "cancel",
    "test_an_invalid_request_names_its_fields": "error details",
    "test_a_call_is_repeated_when_the_service_asks_for_it": "error details",
    "test_a_call_is_not_repeated_after_its_deadline": "error details",
    "test_a_watch_resumes_when_its_connection_is_cut": "resume",
    "test_a_watch_of_a_final_job_resumes_after_its_snapshot": "resume",
    "test_a_watch_resumes_by_the_latest_token": "resume",
    "test_a_watch_resumes_after_the_last_event_if_its_token_is_refused": "resume",
    "test_tls_and_a_token": "TLS, token",
    "test_another_authority_is_not_trusted": "other authority",
    "test_a_wrong_token_is_refused": "wrong token",
    "test_a_watch_survives_a_rolling_restart": "restart",
    "test_watches_that_are_left_end_on_the_server": "200 left",
}
HEADINGS = list(dict.fromkeys(COLUMNS.values()))
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


def _link(language: Language) -> str:
    """The language's name in the table, which leads to the page of its client."""
    return f"[{language.title}](../clients/{language.name}/README.md)"


class Results:
    """A plugin of pytest. Rows of languages that were not run are kept."""

    def __init__(self, page: Path | None) -> None:
        self._page = page
        self._build_s: dict[str, float] = {}
        self._versions: dict[str, str] = {}
        self._test_s: dict[str, float] = {}
        self._outcomes: dict[str, dict[str, str]] = {}

    def built(self, language: Language, seconds: float) -> None:
        self._build_s[language.name] = seconds
        if self._page is not None:
            self._versions[language.name] = language.tested_version()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = re.fullmatch(r".*::(\w+)\[(\w+)\]", report.nodeid)
        if found is None or found[2] not in LANGUAGES:
            return
        test, language = found[1], found[2]
        outcomes = self._outcomes.setdefault(language, {})
        if report.failed or report.skipped:
            outcomes[COLUMNS[test]] = report.outcome
        elif report.when == "call":
            outcomes.setdefault(COLUMNS[test], "passed")
            self._test_s[language] = self._test_s.get(language, 0.0) + report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for language, seconds in self._build_s.items():
            tests = self._test_s.get(language, 0.0)
            terminalreporter.write_line(f"{language}: built in {seconds:.1f} s, tests took {tests:.1f} s")
        if self._page is not None:
            self._page.write_text(self._with_table(self._page.read_text()))

    def _with_table(self, text: str) -> str:
        before, begin, rest = text.partition(BEGIN)
        old, end, after = rest.partition(END)
        assert begin and end, f"{self._page} has no part for results"
        rows = {line.split("|")[1].strip(): line for line in old.splitlines() if line.startswith("| ")}
        for language in self._outcomes:
            rows[_link(LANGUAGES[language])] = self._row(language)
        headings = ["", "tested with", "build", "tests", *HEADINGS]
        table = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
        table += [rows[_link(language)] for language in LANGUAGES.values() if _link(language) in rows]
        return before + BEGIN + "\n".join(table) + "\n" + END + after

    def _row(self, language: str) -> str:
        build = f"{self._build_s[language]:.0f} s" if language in self._build_s else "failed"
        outcomes = self._outcomes[language]
        cells = [
            _link(LANGUAGES[language]),
            self._versions.get(language, ""),
            build,
            f"{self._test_s.get(language, 0.0):.0f} s",
            *(outcomes.get(column, "not run") for column in HEADINGS),
        ]
        return f"| {' | '.join(cells)} |"
