"""Fuzzing: libFuzzer on what reads a peer's bytes (Tests/Fuzz), and random frame sequences against a server.

FUZZ_SEED gives other inputs; what libFuzzer finds is left in .build/fuzz/found.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from frames import DATA, HEADERS, RST_STREAM
from fuzz_frames import Summary, fuzz, write
from harness import ROOT, Cluster
from hostile import HostileServer

SEED = int(os.environ.get("FUZZ_SEED", "1"))
#: With the length of an input, which for frames is most of the time one takes: longer ones are for a server that runs.
FUZZERS = {"frames": 256, "messages": 1_024, "metadata": 1_024}
FUZZ_BIN = Path(os.environ.get("FUZZ_BIN", ROOT / ".build/fuzz/release/Fuzz"))
FOUND = ROOT / ".build/fuzz/found"
#: With what environment a server ends at the first finding; the one for addresses looks for leaks at its end.
SANITIZERS = {
    "address": {"ASAN_OPTIONS": "detect_leaks=1"},
    "thread": {"TSAN_OPTIONS": "halt_on_error=1", "LD_PRELOAD": str(ROOT / ".build/thread/order.so")},
}

SHORT_RUNS, LONG_RUNS = 20_000, 10_000_000
SHORT_SEQUENCES, LONG_SEQUENCES = 5_000, 1_000_000
#: More than it takes on a slow machine with other things to do.
SHORT_S, LONG_S = 300.0, 3 * 3_600.0


class Fuzzer:
    """libFuzzer with one of Tests/Fuzz, which runs until it has tried so many inputs or found something."""

    def __init__(self, name: str, runs: int, folder: Path) -> None:
        assert FUZZ_BIN.exists(), f"{FUZZ_BIN} is not there: build it, or set FUZZ_BIN"
        self.runs = runs
        corpus, seeds = folder / "corpus", folder / "seeds"
        corpus.mkdir(parents=True)
        seeds.mkdir()
        if name == "frames":
            # Bytes at random hardly ever begin a call.
            write(seeds, 1_000, SEED)
        FOUND.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(FUZZ_BIN, name, f"-runs={runs}", f"-seed={SEED}", f"-max_len={FUZZERS[name]}", "-timeout=60"),
                    *("-rss_limit_mb=2048", f"-artifact_prefix={FOUND}/{name}-", "-print_final_stats=1"),
                    *(corpus, seeds),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                # Where memory was allocated is kept for each piece of it, and costs a tenth of the time.
                env={**os.environ, "ASAN_OPTIONS": "malloc_context_size=3"},
            )

    def finish(self, patience_s: float) -> str:
        """Waits for its end, which must be one without a finding. Says what it did."""
        code = self._process.wait(patience_s)
        log = self._log.read_text(errors="replace")
        assert code == 0, f"exit code {code}:\n{log[-4_000:]}"
        figures = dict(
            line.removeprefix("stat::").split(":", 1) for line in log.splitlines() if "stat::" in line
        )
        assert int(figures["number_of_executed_units"]) >= self.runs
        # It went where there is something to find.
        assert int(figures["new_units_added"]) > 50
        coverage = log.rpartition(" cov: ")[2].split()[0]
        return f"{int(figures['number_of_executed_units']):,} inputs, {coverage} edges, no finding"

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)


@pytest.mark.parametrize("name", FUZZERS)
def test_fuzzer(name, tmp_path, record_property):
    fuzzer = Fuzzer(name, SHORT_RUNS, tmp_path)
    try:
        record_property("figures", fuzzer.finish(SHORT_S))
    finally:
        fuzzer.close()


@pytest.fixture(scope="module")
def long_fuzzers(tmp_path_factory) -> Iterator[dict[str, Fuzzer]]:
    """All at once: each takes one core at most."""
    fuzzers: dict[str, Fuzzer] = {}
    try:
        for name in FUZZERS:
            fuzzers[name] = Fuzzer(name, LONG_RUNS, tmp_path_factory.mktemp(name))
        yield fuzzers
    finally:
        for fuzzer in fuzzers.values():
            fuzzer.close()


@pytest.mark.long
@pytest.mark.parametrize("name", FUZZERS)
def test_fuzzer_at_length(name, long_fuzzers, record_property):
    record_property("figures", long_fuzzers[name].finish(LONG_S))


def check_random_frames(server: HostileServer, sequences: int) -> Summary:
    summary = fuzz(server.address, sequences, SEED)
    print(summary, dict(summary.answers))
    assert server.is_running
    # They go where there is something to find: calls are answered, streams and connections are refused.
    assert summary.answers[HEADERS] > 1_000 and summary.answers[DATA] > 100
    assert summary.answers[RST_STREAM] > 100 and len(summary.ends) >= 4
    return summary


def test_random_frames(cluster, record_property):
    server = HostileServer(cluster)
    try:
        record_property("figures", f"{check_random_frames(server, SHORT_SEQUENCES)}; no finding")
    finally:
        server.close()


@pytest.mark.long
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_random_frames_at_length(sanitizer: str, cluster: Cluster, record_property):
    """Against a server that was built with a sanitizer, which ends it where it finds something."""
    binary = ROOT / f".build/{sanitizer}/release/signalbox"
    server = HostileServer(
        cluster, binary=binary, environment=SANITIZERS[sanitizer], log_level="warning"
    )
    try:
        try:
            summary = check_random_frames(server, LONG_SEQUENCES)
            assert server.terminate() == 0
        finally:
            assert "Sanitizer" not in server.log(), server.log()[-8_000:]
        record_property("figures", f"{summary}; no finding")
    finally:
        server.close()
