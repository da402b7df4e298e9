"""Two machines, played by this one: a stand-in srun starts the second torchrun here. Everything else is as inside a SLURM job.

The real srun and two real machines are for a cluster: nobody has run that yet.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.living_hub import until
from tests.support.runs import ONE_THREAD, new_run
from tests.support.tiny_model import write_rows
from tests.support.two_ranks import TwoRanks
from tuitune.hub.torchrun import Nodes, torchrun
from tuitune.runs.manifest import read_manifest
from tuitune.trainer.other_nodes import command_for_others

pytest.importorskip("transformers")

SRUN = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
while case "$1" in --*) true;; *) false;; esac; do shift; done
SLURM_PROCID=0 exec "$@"
"""


class TwoNodes(TwoRanks):
    def second_torchrun(self) -> int:
        """The pid of the other machine's torchrun."""
        return next(pid for pid in self.workers() if b"--node-rank=slurm" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))

    def second_rank(self) -> int:
        """The pid of its process."""
        pid = self.second_torchrun()
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., TwoNodes]]:
    """Starts runs on two machines; nothing of them is left."""
    write_rows(tmp_path / "train.jsonl")
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURMD_NODENAME": "127.0.0.1"}
    started: list[TwoNodes] = []

    def start(nodes: int = 2, **training: Any) -> TwoNodes:
        settings = {"max_steps": 5000, "learning_rate": 1e-3, "logging_steps": 1, "max_length": 64, "save_strategy": "no", **training}
        recipe = (
            f"task: sft\nmodel: {{name_or_path: {tiny_model}, dtype: float32}}\nlaunch: {{gpus: cpu, nodes: {nodes}}}\n"
            "peft: {r: 8, lora_alpha: 16, target_modules: all-linear}\n"
            "dataset: {train: [{path: train.jsonl, columns: {user: question, assistant: answer}}]}\n"
            f"training: {json.dumps(settings)}\n"
        )
        environment = {**ONE_THREAD, **job, "PATH": f"{srun.parent}:{os.environ['PATH']}"}
        started.append(TwoNodes(new_run(tmp_path, recipe), leased=True, environment=environment))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_two_machines_train_together_and_a_command_counts_on_both_at_the_same_step(start: Callable[..., TwoNodes], tmp_path: Path) -> None:
    two = start()
    two.wait_for_step(2)
    assert two.records("hello")[-1]["world"] == 2
    answers = [
        two.order("set", key="learning_rate", value=5e-3, kind="hold"),
        two.order("pause", mode="keep"),
        two.order("resume"),
        two.order("stop", save=True),
    ]
    assert [answer["s"] for answer in answers] == ["applied"] * 4
    first, second = two.end()
    assert first == second, "the same step, rate, losses, weights and orders"
    assert (first["world"], first["rate"][0]) == (2, 5e-3)
    assert [op for _, op in first["orders"]] == ["set", "pause", "resume", "stop"]
    assert read_manifest(two.run).state == "stopped"
    assert (two.run.adapter / "adapter_config.json").is_file()
    assert len(list(two.run.checkpoints.glob("*/rng_state_1.pth"))) == 1, "the other machine keeps its random state too"
    call = (tmp_path / "bin" / "calls").read_text()
    assert call.startswith("--nodes=1 --ntasks=1 --ntasks-per-node=1 --exclude=127.0.0.1 --kill-on-bad-exit=1 --input=none ")


def test_a_signal_to_the_hub_saves_and_ends_both(start: Callable[..., TwoNodes]) -> None:
    two = start()
    two.wait_for_step(2)
    two.hub.send_signal(signal.SIGTERM)
    first, second = two.end()
    assert first == second
    assert first["stopped"] == "SIGTERM"
    assert [record["step"] for record in two.records("checkpoint")] == [first["step"]]
    assert read_manifest(two.run).state == "stopped"


def test_a_process_of_the_other_machine_that_is_killed_is_named(start: Callable[..., TwoNodes]) -> None:
    two = start()
    two.wait_for_step(2)
    second = two.second_torchrun()
    os.kill(two.second_rank(), signal.SIGKILL)
    two.hub.wait(120)
    assert (read_manifest(two.run).why or "").startswith("rank 1 ended first (SIGKILL, log/1.rank1.txt)")
    until(lambda: not Path(f"/proc/{second}").exists())


def test_a_machine_that_is_lost_ends_the_run(start: Callable[..., TwoNodes]) -> None:
    """Its torchrun is gone without a word, as when a machine is switched off: what is left is the connection that broke."""
    two = start()
    two.wait_for_step(2)
    os.kill(two.second_torchrun(), signal.SIGKILL)
    two.hub.wait(120)
    manifest = read_manifest(two.run)
    assert manifest.state == "failed"
    assert not two.told(), "no process came to its end"


def test_fewer_machines_than_the_recipe_says_are_refused_with_what_to_do(start: Callable[..., TwoNodes]) -> None:
    three = start(nodes=3)
    three.hub.wait(60)
    assert "launch.nodes: 3: this SLURM job has 2" in (read_manifest(three.run).why or "")


def test_the_first_machine_alone_starts_the_others() -> None:
    command = torchrun(["python", "-P", "-m", "tuitune.trainer", "run"], 8, Nodes(4, "n1", 29400))
    arguments = command[command.index("tuitune.trainer.torchrun") + 1 :]
    assert arguments == [
        *("--nnodes=4", "--node-rank=0", "--master-addr=n1", "--master-port=29400", "--nproc_per_node=8"),
        *("-m", "tuitune.trainer", "run"),
    ]
    others = command_for_others(arguments)
    assert others[:3] == ["srun", "--nodes=3", "--ntasks=3"]
    at = others.index("tuitune.trainer.torchrun")
    assert others[at + 1 :] == ["--nnodes=4", "--node-rank=slurm", *arguments[2:]]
    assert command_for_others(others[at + 1 :]) == []
    assert command_for_others(["--standalone", "--nproc_per_node=8"]) == []
