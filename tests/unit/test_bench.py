"""The bench's own arithmetic and its command line; the figures themselves are never part of a test."""

import subprocess
import sys
from pathlib import Path

from tests.bench.terminal import presses, summary

ROOT = Path(__file__).parents[2]


def test_percentiles_are_of_the_answered_keys_and_unanswered_ones_are_told() -> None:
    keys = [(float(ms), ms * 10) for ms in range(1, 101)]
    told = summary(keys, pressed=120)
    assert (told["keys"], told["answered"]) == (120, 100)
    assert (told["ms_p50"], told["ms_p95"], told["bytes_p95"]) == (51.0, 95.0, 950)
    assert summary([], pressed=3) == {"keys": 3, "answered": 0}


def test_text_becomes_the_keys_a_person_presses() -> None:
    assert presses("r: 8\n") == ["r", ":", "space", "8", "enter"]


def test_an_unknown_bench_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.bench", "nonsense"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "terminal" in done.stderr
