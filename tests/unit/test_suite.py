"""The suite's own rule: what failed among others is run once more alone, and fails when it fails again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# a test that fails the first time it is run, as one does that was late; one that always fails
LATE = """
import pytest

@pytest.mark.xdist_group("one")
def test_late():
    mark = Path(__file__).with_suffix(".mark")
    seen = mark.exists()
    mark.touch()
    assert seen
"""
WRONG = "def test_wrong():\n    assert False\n"
RIGHT = "def test_right():\n    pass\n"


def suite(folder: Path, *texts: str) -> tuple[int, str]:
    for number, text in enumerate(texts):
        (folder / f"test_{number}.py").write_text("from pathlib import Path\n" + text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = xdist_group\n")
    command = [sys.executable, "-m", "tests.suite"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("texts", "code", "words"),
    [
        ((RIGHT, LATE), 0, "Passed alone"),
        ((RIGHT, LATE, WRONG), 1, "once more, alone"),
        ((*[WRONG] * 6, RIGHT), 1, "6 failed, 1 passed"),
    ],
)
def test_one_that_fails_alone_too_has_failed(tmp_path: Path, texts: tuple[str, ...], code: int, words: str) -> None:
    returned, said = suite(tmp_path, *texts)
    assert (returned, words in said) == (code, True), said
