"""The analyst's server and client with toy operations: answers, progress, limits, deaths, cancels."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuitune.analyst import client as client_module
from tuitune.analyst.client import Analyst, Cancelled
from tuitune.errors import UserError

TOY = [sys.executable, str(Path(__file__).parents[2] / "support" / "toy_analyst.py")]


@pytest.fixture
def analyst(monkeypatch: pytest.MonkeyPatch) -> Iterator[Analyst]:
    monkeypatch.setattr(client_module, "COMMAND", TOY)
    analyst = Analyst()
    yield analyst
    analyst.close()


def asked(analyst: Analyst, op: str, **args: object) -> dict:
    return analyst.request(op, args)


def refusal(analyst: Analyst, op: str, **args: object) -> str:
    with pytest.raises(UserError) as refused:
        asked(analyst, op, **args)
    return str(refused.value)


def test_an_answer_comes_after_its_progress_and_chatter_is_not_an_answer(analyst: Analyst) -> None:
    told: list[str] = []
    assert analyst.request("echo", {"a": [1, "ä\x1b"]}, progress=told.append) == {"a": [1, "ä\x1b"]}
    assert told == ["one moment"]


def test_a_large_answer_comes_whole(analyst: Analyst) -> None:
    assert len(asked(analyst, "large", size=5_000_000)["text"]) == 5_000_000


def test_refusals_are_sentences_and_faults_have_a_name(analyst: Analyst) -> None:
    assert refusal(analyst, "refuse") == "row 3 is no row; mend it"
    assert refusal(analyst, "fault") == "KeyError: 'assistant'"
    assert "unknown op 'dance'" in refusal(analyst, "dance")


def test_what_takes_too_long_is_ended_while_others_are_answered(analyst: Analyst) -> None:
    asked(analyst, "echo")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(refusal(analyst, "endless")))
    thread.start()
    time.sleep(0.1)
    assert asked(analyst, "echo", b=2) == {"b": 2}
    assert said == [], "another request does not wait for the endless one"
    thread.join(10)
    assert said == ["this took longer than 2 s and was ended"]


@pytest.mark.parametrize("forked", [False, True], ids=["in the worker", "in a process it forked"])
def test_a_template_that_does_not_return_is_ended_after_two_seconds_while_others_are_answered(analyst: Analyst, forked: bool) -> None:
    asked(analyst, "echo")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(refusal(analyst, "render", seconds=15, forked=forked)))
    started = time.monotonic()
    thread.start()
    time.sleep(1.0)
    assert asked(analyst, "echo", b=2) == {"b": 2}
    assert said == [], "it is not ended at once: real conversations can be long"
    thread.join(10)
    assert said[0].startswith("the chat template did not return within 2 s")
    assert time.monotonic() - started < 10


def test_a_template_that_returns_in_time_is_left_alone(analyst: Analyst) -> None:
    assert asked(analyst, "render", seconds=0.5) == {"rendered": 0.5}


def test_a_worker_that_wants_too_much_memory_is_ended(analyst: Analyst) -> None:
    assert "needs more than" in refusal(analyst, "hungry")
    assert asked(analyst, "echo", c=3) == {"c": 3}


def test_a_worker_that_dies_is_told_and_costs_nothing_else(analyst: Analyst) -> None:
    assert "died without a word" in refusal(analyst, "die")
    assert asked(analyst, "echo", d=4) == {"d": 4}


@pytest.mark.parametrize("leaves", [False, True], ids=["the asker stays", "the asker leaves"])
def test_what_is_to_be_remembered_keeps_nobody_waiting_and_is_done_all_the_same(analyst: Analyst, tmp_path: Path, leaves: bool) -> None:
    file, told = tmp_path / "memory", []
    assert analyst.request("remember", {"file": str(file), "seconds": 0.5}, progress=told.append) == {"answered": True}
    assert not file.exists()
    if leaves:
        analyst.close()
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.exists()
    assert told == [], "a word after the answer has nobody to go to"


def test_a_cancelled_request_ends_its_worker(analyst: Analyst) -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(Cancelled):
        analyst.request("sleep", {"seconds": 15}, cancel=cancel)
    assert asked(analyst, "echo", e=5) == {"e": 5}


def test_killed_in_the_middle_it_says_so_and_comes_back(analyst: Analyst) -> None:
    asked(analyst, "echo")
    process = analyst._process
    assert process is not None
    threading.Timer(0.2, os.kill, (process.pid, signal.SIGKILL)).start()
    assert refusal(analyst, "sleep", seconds=15) == ("the analyst died while it worked on this (signal 9); ask again, it starts by itself")
    assert asked(analyst, "echo", f=6) == {"f": 6}
    assert analyst._process is not process


def test_more_requests_than_workers_are_all_answered(analyst: Analyst) -> None:
    results: list[dict] = []
    threads = [threading.Thread(target=lambda n=n: results.append(asked(analyst, "echo", n=n))) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(result["n"] for result in results) == list(range(12))


def test_when_the_asker_is_gone_everything_ends(analyst: Analyst) -> None:
    asked(analyst, "echo")
    process = analyst._process
    assert process is not None
    thread = threading.Thread(target=lambda: refusal(analyst, "sleep", seconds=15))
    thread.start()
    time.sleep(0.2)
    analyst.close()
    assert process.wait(5) == 0
    thread.join(5)
