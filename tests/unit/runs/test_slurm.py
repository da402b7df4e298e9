"""The SLURM script: its options, and what it does when the job starts, is warned, and starts again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.living_hub import until
from tuitune.errors import UserError
from tuitune.recipe.recipe import load_recipe
from tuitune.runs import slurm

RECIPE = "name: mine\ntask: sft\nmodel: {name_or_path: x}\ndataset: {train: [{path: a.jsonl}]}\n"


def script(folder: Path, launch: str = "") -> str:
    path = folder / "my recipe.yaml"
    path.write_text(RECIPE + launch)
    return slurm.script(load_recipe(path), folder)


def options(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]


def test_the_options_are_those_of_the_recipe_beside_what_the_script_needs(tmp_path: Path) -> None:
    found = options(script(tmp_path, "launch: {gpus: 4, slurm: {partition: gpu, time: '12:00:00', cpus_per_task: 16, exclusive: true}}\n"))
    assert found == [
        *("job-name=mine", "nodes=1", "ntasks=1", "signal=B:USR1@300", "requeue", "open-mode=append", "output=runs/slurm-%j.txt"),
        *("gpus-per-node=4", "partition=gpu", "time=12:00:00", "cpus-per-task=16", "exclusive"),
    ]


def test_several_machines_have_a_task_each(tmp_path: Path) -> None:
    found = options(script(tmp_path, "launch: {gpus: 8, nodes: 4}\n"))
    assert {"nodes=4", "ntasks=4", "ntasks-per-node=1", "gpus-per-node=8"} <= set(found)


@pytest.mark.parametrize(("gpus", "line"), [("auto", "gpus-per-node=1"), ("2", "gpus-per-node=2"), ("cpu", None)])
def test_it_asks_for_the_gpus_that_the_run_takes(tmp_path: Path, gpus: str, line: str | None) -> None:
    found = [option for option in options(script(tmp_path, f"launch: {{gpus: {gpus}}}\n")) if option.startswith("gpus")]
    assert found == ([line] if line else [])


def test_a_cluster_without_an_option_leaves_it_out(tmp_path: Path) -> None:
    text = script(tmp_path, "launch: {slurm: {gpus-per-node: null, gres: 'gpu:1'}}\n")
    assert "gpus-per-node=" not in text
    assert "gres=gpu:1" in options(text)


@pytest.mark.parametrize(
    ("launch", "why"),
    [
        ("{slurm: {signal: USR2}}", r"yaml:\d+: launch\.slurm\.signal is set by the script"),
        ("{slurm: {'a b': 1}}", "is no option of sbatch"),
        ("{slurm: {comment: [1, 2]}}", "takes one value on one line"),
        ('{slurm: {comment: "a\\nrm -rf x"}}', "takes one value on one line"),
        ("{slurm: {ntasks-per-node: 2}}", "is set by the script"),
    ],
)
def test_what_the_script_cannot_do_is_refused_with_the_place(tmp_path: Path, launch: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        script(tmp_path, f"launch: {launch}\n")


STAND_IN = """#!/bin/bash
echo "$(basename "$0") $*" >> calls
case "$*" in
    train*) echo '{"schema": 1, "run": "r", "path": "runs/r 1"}';;
    attach*) while [ ! -e over ]; do sleep 0.05; done; exit $(cat over);;
    *stop*) echo 0 > over;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with the job's script, in which `tuitune` and `scontrol` write down what they are called with."""
    text = script(tmp_path).replace(f"{sys.executable} -m tuitune", str(tmp_path / "tuitune"))
    (tmp_path / "job.sh").write_text(text)
    for name in ("tuitune", "scontrol"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def start(folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    return subprocess.Popen(["bash", "job.sh"], cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def calls(folder: Path) -> list[str]:
    try:
        return (folder / "calls").read_text().splitlines()
    except OSError:
        return []


def test_warned_it_saves_and_queues_itself_and_the_next_time_it_goes_on(cluster: Path) -> None:
    job = start(cluster)
    until(lambda: len(calls(cluster)) == 2)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(20) == 0
    assert calls(cluster) == [
        "tuitune train my recipe.yaml --detach --json",
        "tuitune attach runs/r 1 --plain",
        "tuitune send runs/r 1 stop save=true",
        "scontrol requeue 17",
    ]
    (cluster / "over").unlink()
    job = start(cluster)
    until(lambda: len(calls(cluster)) == 6)
    (cluster / "over").write_text("0")
    assert job.wait(20) == 0
    assert calls(cluster)[4:] == ["tuitune resume runs/r 1 --detach", "tuitune attach runs/r 1 --plain"]


def test_a_run_that_fails_is_a_failed_job_and_is_not_queued_again(cluster: Path) -> None:
    job = start(cluster)
    until(lambda: len(calls(cluster)) == 2)
    time.sleep(0.1)
    (cluster / "over").write_text("1")
    assert job.wait(20) == 1
    assert not any("scontrol" in call for call in calls(cluster))
