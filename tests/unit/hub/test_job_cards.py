"""Which GPUs a job gets: one at most, its own wish before its recipe's, none at all where nothing is computed."""

from pathlib import Path
from typing import Any

import pytest

from tuitune.hub.cards import Cards
from tuitune.hub.record import RunRecord
from tuitune.hub.wishes import wanted_gpus
from tuitune.runs.directory import create_run
from tuitune.runs.listing import RunSummary
from tuitune.runs.manifest import Manifest
from tuitune.workbench.views.run.resuming import Ended, refusal, words


@pytest.mark.parametrize(
    ("recipe", "job", "wanted"),
    [
        ("launch: {gpus: 4}\n", {}, "auto"),
        ("launch: {gpus: 4}\n", {"gpus": "cpu"}, "cpu"),
        ("launch: {gpus: cpu}\n", {}, "cpu"),
        ("launch: {gpus: cpu}\n", {"gpus": "auto"}, "auto"),
        ("training: {use_cpu: true}\n", {}, "cpu"),
        ("model: {name_or_path: x}\n", {}, "auto"),
    ],
)
def test_a_job_takes_one_gpu_or_none(tmp_path: Path, recipe: str, job: dict[str, Any], wanted: str) -> None:
    assert wanted_gpus(create_run(tmp_path, "eval-x", recipe), Manifest("eval-x", kind="eval", job=job)) == wanted


@pytest.mark.parametrize("kind", ["sweep", "push"])
def test_what_computes_nothing_itself_takes_no_card_and_hides_none(tmp_path: Path, kind: str) -> None:
    run = create_run(tmp_path, f"{kind}-x", "launch: {gpus: 4}\n")
    lease = Cards(RunRecord(run, Manifest(f"{kind}-x", kind=kind))).take()
    assert (lease.uuids, lease.locks, lease.environment()) == ([], [], {})


def ended(kind: str, state: str) -> Ended:
    return Ended(RunSummary("x-1", Path("/x-1"), "x", state, why="row 3 is no JSON", kind=kind), None)


def test_the_workbench_says_what_resuming_a_job_means() -> None:
    assert refusal(ended("chat", "failed")) == "A chat's turns are gone with its process: start another one."
    assert refusal(ended("merge", "done")) == "This merge is done: start another one."
    assert refusal(ended("eval", "failed")) == ""
    assert words(ended("eval", "failed")) == ["It failed: row 3 is no JSON", "It starts again, from its beginning."]
