"""What the libraries said of this box is remembered for an hour, and only when nothing was wrong with it."""

import os
from pathlib import Path
from typing import Any

import pytest

from tuitune.preflight import box, libraries
from tuitune.preflight.box import look_at_box

GOOD: dict[str, Any] = {"torch": {"version": "2", "available": True}, "bitsandbytes": {"version": "0.50", "works": True}}
FAULTS: dict[str, dict[str, Any]] = {
    "no GPU for torch": {**GOOD, "torch": {"version": "2", "available": False, "error": "no driver"}},
    "bitsandbytes does not work": {**GOOD, "bitsandbytes": {"version": None, "works": False, "error": "ImportError"}},
    "no answer": {"error": "the libraries did not answer within 120 s"},
}


class Asked:
    """In place of the probe's process: counts how often it is asked."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.times = answer, 0

    def __call__(self) -> Any:
        self.times += 1
        return lambda: self.answer


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def with_answer(answer: dict[str, Any]) -> Asked:
        asked = Asked(answer)
        monkeypatch.setattr(libraries, "start_probe", asked)
        return asked

    return with_answer


def test_a_good_answer_is_asked_for_once(ask: Any) -> None:
    asked = ask(GOOD)
    assert [look_at_box().libraries for _ in range(3)] == [GOOD] * 3
    assert asked.times == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_looked_at_again_each_time(ask: Any, fault: str) -> None:
    asked = ask(FAULTS[fault])
    assert [look_at_box().libraries for _ in range(2)] == [FAULTS[fault]] * 2
    assert asked.times == 2


def test_whoever_asks_anew_is_told_what_is_so_now(ask: Any) -> None:
    ask(GOOD)
    look_at_box()
    asked = ask(FAULTS["no GPU for torch"])
    assert look_at_box(anew=True).libraries["torch"]["error"] == "no driver"
    assert asked.times == 1


@pytest.mark.parametrize("change", ["an hour passes", "another environment", "another version", "another GPU"])
def test_it_is_asked_again_when_it_may_have_changed(ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str) -> None:
    asked = ask(GOOD)
    look_at_box()
    if change == "an hour passes":
        for file in (tmp_path / "tuitune").glob("libraries-*.json"):
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - libraries.REMEMBERED_S - 1))
    elif change == "another environment":
        monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    elif change == "another version":
        monkeypatch.setattr(box, "installed", lambda: {"torch": "3"})
    else:
        sample = box.GpuSampler.sample
        monkeypatch.setattr(box.GpuSampler, "sample", lambda self: sample(self) | {"driver": "600.1"})
    look_at_box()
    assert asked.times == 2


def test_what_cannot_be_read_is_asked_again(ask: Any, tmp_path: Path) -> None:
    asked = ask(GOOD)
    look_at_box()
    for file in (tmp_path / "tuitune").glob("libraries-*.json"):
        file.write_text("{")
    assert look_at_box().libraries == GOOD
    assert asked.times == 2


def test_a_home_that_cannot_be_written_costs_the_memory_only(ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    asked = ask(GOOD)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [look_at_box().libraries for _ in range(2)] == [GOOD] * 2
    assert asked.times == 2
