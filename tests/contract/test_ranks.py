"""Two processes by torchrun (gloo, on the CPU) under a real hub: every order counts on both at the same step, and nobody waits for ever."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.living_hub import until
from tests.support.runs import new_run
from tests.support.tiny_model import write_rows
from tests.support.two_ranks import TwoRanks
from tuitune.runs.manifest import read_manifest

pytest.importorskip("transformers")


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


def stacks_of(two: TwoRanks, rank: int) -> str:
    """What the journal has of that rank's threads."""
    return "\n".join(record["text"] for record in two.records("log") if record["stream"] == "stacks" and record["rank"] == rank)


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
    torchrun = read_manifest(two.run).trainer
    assert torchrun is not None
    os.kill(torchrun.pid, signal.SIGHUP)  # is nothing to a run
    two.wait_for_step(two.records("metrics")[-1]["step"] + 2)
    two.hub.send_signal(signal.SIGTERM)
    first, second = two.end()
    assert first == second
    assert first["stopped"] == "SIGTERM"
    assert not any("broke down" in record["text"] for record in two.records("warning"))
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
    workers = two.workers()
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


def test_both_write_their_stacks_and_one_that_is_killed_is_named_with_its_signal(start: Callable[..., TwoRanks]) -> None:
    two = start()
    two.wait_for_step(2)
    answer = two.order("stacks")
    assert (answer["s"], answer["note"]) == ("applied", f"the stacks of 2 processes are in {two.run.log / '1.rank*.stacks.txt'}")
    until(lambda: all("most recent call first" in stacks_of(two, rank) for rank in (0, 1)))
    assert all(stacks_of(two, rank).startswith(f"stacks of rank {rank}:\n") for rank in (0, 1))

    os.kill(two.rank(1), signal.SIGSTOP)
    until(lambda: Path(f"/proc/{two.rank(1)}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    assert f"rank 1 is stopped by a signal (kill -CONT {two.rank(1)} lets it go on)" in two.order("stacks")["note"]

    os.kill(two.rank(1), signal.SIGKILL)
    two.hub.wait(60)
    why = read_manifest(two.run).why or ""
    assert why.startswith("rank 1 ended first (SIGKILL, log/1.rank1.txt): somebody or something killed it")
    assert "resume the run" in why
    crash = two.records("crash")[-1]
    assert (crash["class"], crash["signal"], crash["rank"], crash["hint"]) == ("killed", "SIGKILL", 1, why)
