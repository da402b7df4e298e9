"""Two processes by torchrun (gloo, on the CPU) under a real hub: every order counts on both at the same step, and nobody waits for ever."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.living_hub import until
from tests.support.runs import ONE_THREAD, ROOT, new_run
from tests.support.tiny_model import write_rows
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.bus.sockets import remove_sockets
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest

pytest.importorskip("transformers")

# A box without GPUs: the hub starts two processes all the same.
SUPERVISE = (
    "import sys; from pathlib import Path; from tuitune.hub import torchrun; from tuitune.hub.supervisor import supervise;"
    "one, several = torchrun.torchrun, torchrun.environment;"
    "torchrun.torchrun, torchrun.environment = lambda command, _: one(command, 2), lambda _: several(2);"
    "sys.exit(supervise(Path(sys.argv[1]), [sys.executable, '-P', '-m', 'tests.support.ranked_trainer', sys.argv[1]]))"
)


class TwoRanks:
    """A run of two processes and its hub."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.start_hub()

    def start_hub(self) -> None:
        """The run's first hub, or the next one."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **ONE_THREAD}
        command = [sys.executable, "-c", SUPERVISE, str(self.run.path)]
        self.hub = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)

    def records(self, event: str) -> list[dict[str, Any]]:
        return [record for record in JournalTail(self.run.journal).poll() if record["ev"] == event]

    def order(self, op: str, **arguments: Any) -> dict[str, Any]:
        return HubClient(self.run.path).send(op, arguments, until="applied", wait_s=60)

    def wait_for_step(self, step: int) -> None:
        until(lambda: any(record["step"] >= step for record in self.records("metrics")), 120)

    def end(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Wait until it is over; what the two ranks have come to."""
        self.hub.wait(120)
        first, second = (json.loads((self.run.path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
        return first, second

    def close(self) -> None:
        trainer = read_manifest(self.run).trainer
        self.hub.kill()
        self.hub.wait()
        if trainer and trainer.alive():
            os.killpg(trainer.pid, signal.SIGKILL)
        remove_sockets(self.run.path)


def recipe(model: Path, **training: Any) -> str:
    settings = {
        "max_steps": 5000,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_length": 64,
        "save_strategy": "no",
        **training,
    }
    return (
        f"task: sft\nmodel: {{name_or_path: {model}, dtype: float32}}\nlaunch: {{gpus: cpu}}\n"
        "peft: {r: 8, lora_alpha: 16, target_modules: all-linear, lora_dropout: 0.1}\n"
        "dataset:\n  train: [{path: train.jsonl, columns: {user: question, assistant: answer}}]\n"
        "  eval: [{path: train.jsonl, columns: {user: question, assistant: answer}, max_rows: 4}]\n"
        f"training: {json.dumps(settings)}\n"
    )


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., TwoRanks]]:
    """Starts runs on two processes; nothing of them is left."""
    write_rows(tmp_path / "train.jsonl")
    started: list[TwoRanks] = []

    def start(**training: Any) -> TwoRanks:
        started.append(TwoRanks(new_run(tmp_path, recipe(tiny_model, **training))))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_every_order_counts_on_both_ranks_at_the_same_step(start: Callable[..., TwoRanks]) -> None:
    two = start()
    two.wait_for_step(2)
    assert two.records("hello")[-1]["world"] == 2
    answers = [
        two.order("set", key="learning_rate", value=5e-3, kind="hold"),
        two.order("pause", mode="trim"),
        two.order("set", key="learning_rate", value=2e-3, kind="hold"),
        two.order("save"),
        two.order("resume"),
        two.order("evaluate"),
        two.order("reshape", per_device_train_batch_size=4, gradient_accumulation_steps=1),
        two.order("dance"),
        two.order("stop", save=True),
    ]
    assert [answer["s"] for answer in answers] == ["applied"] * 7 + ["failed", "applied"]
    first, second = two.end()
    assert first == second
    assert (first["world"], first["rate"][0], first["batch"]) == (2, 2e-3, [4, 1])
    assert read_manifest(two.run).state == "stopped"
    assert {record["complete"] for record in two.records("checkpoint")} == {True}
    assert len(list(two.run.checkpoints.glob("*/rng_state_1.pth"))) == len(two.records("checkpoint")), "each rank keeps its random state"
    tokens = [record["tokens"] for record in two.records("metrics")]
    assert tokens == sorted(tokens)
    assert (two.run.adapter / "adapter_config.json").is_file()
    assert (two.run.log / "1.rank1.txt").is_file()


def test_a_signal_stops_both_at_the_same_step_with_a_checkpoint(start: Callable[..., TwoRanks]) -> None:
    """torchrun passes SIGTERM on to both, and each would see it at a step of its own."""
    two = start()
    two.wait_for_step(2)
    two.hub.send_signal(signal.SIGTERM)
    first, second = two.end()
    assert first == second
    assert first["stopped"] == "SIGTERM"
    assert [record["step"] for record in two.records("checkpoint")] == [first["step"]]
    assert read_manifest(two.run).state == "stopped"


def test_killed_both_end_and_the_next_attempt_goes_on_exactly(start: Callable[..., TwoRanks]) -> None:
    settings = {"max_steps": 12, "save_strategy": "steps", "save_steps": 4}
    whole = start(**settings)
    whole.end()
    losses = {record["step"]: record["loss"] for record in whole.records("metrics")}
    two = start(**settings)
    until(lambda: any(record["step"] == 4 for record in two.records("checkpoint")), 120)
    torchrun = read_manifest(two.run).trainer
    assert torchrun is not None
    workers = [int(pid) for pid in Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()]
    assert len(workers) == 2
    os.kill(torchrun.pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 30)
    two.hub.wait(60)
    assert read_manifest(two.run).state == "failed"
    two.start_hub()
    two.end()
    manifest = read_manifest(two.run)
    assert (manifest.state, manifest.attempt) == ("done", 2)
    again = {record["step"]: record["loss"] for record in two.records("metrics") if record["src"] == "trainer-2"}
    assert again
    assert again == {step: loss for step, loss in losses.items() if step > min(again) - 1}
    assert two.records("seam")[0]["step"] == min(again) - 1
