"""When `auto` takes Liger's kernels and compiles layers, and what the ledger says where it does not."""

import sys
from typing import Any

import pytest

from tuitune.trainer import kernel_choice
from tuitune.trainer.box import Box
from tuitune.trainer.kernel_choice import COMPILED_FROM, why_no_liger, why_not_compiled

H200, T4, CPU = Box(True, "H200", (9, 0)), Box(True, "T4", (7, 5)), Box(False, "CPU", (0, 0))
LIGER = {"task": "sft", "family": "llama", "dtype": "bfloat16", "box": H200, "own_reference": False}
COMPILE = {"task": "sft", "box": H200, "strategy": "none", "steps": COMPILED_FROM + 1, "liger": False}


@pytest.fixture(autouse=True)
def everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "find_spec", lambda name: sys)
    monkeypatch.setattr(kernel_choice, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, ""),
        ({"task": "dpo"}, ""),
        ({"box": CPU}, "its kernels run on a GPU"),
        ({"box": T4}, "T4 is older than Triton wants"),
        ({"task": "reward"}, "with reward Liger's loss would take the place"),
        ({"task": "dpo", "own_reference": True}, "the reference model would be computed without them"),
        ({"family": "gpt2"}, "model family gpt2 is not among those"),
        ({"family": None}, "model family None is not among those"),
        ({"dtype": "float32"}, "the weights are float32, not 16 bits"),
    ],
)
def test_liger_is_taken_for_16_bit_models_it_knows_on_a_gpu(other: dict[str, Any], said: str) -> None:
    assert said in why_no_liger(**LIGER | other)
    assert bool(why_no_liger(**LIGER | other)) is bool(said)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, ""),
        ({"box": CPU}, "on the CPU compiling takes longer than it saves"),
        ({"box": T4}, "T4 is older than Triton wants"),
        ({"strategy": "fsdp"}, "not tried with fsdp"),
        ({"task": "grpo"}, "a token at a time"),
        ({"steps": COMPILED_FROM}, "500 steps are too few"),
        ({"liger": True}, "torch cannot trace Liger's kernels"),
    ],
)
def test_layers_are_compiled_in_long_runs_on_a_gpu(other: dict[str, Any], said: str) -> None:
    assert said in why_not_compiled(**COMPILE | other)
    assert bool(why_not_compiled(**COMPILE | other)) is bool(said)


def test_what_is_not_installed_is_said_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "which", lambda name: None)
    assert why_not_compiled(**COMPILE).endswith("apt install gcc")
    assert why_no_liger(**LIGER).endswith("apt install gcc")
    monkeypatch.setattr(kernel_choice, "find_spec", lambda name: None)
    assert why_not_compiled(**COMPILE) == "Triton is not installed"
    assert why_no_liger(**LIGER).endswith("pip install tuitune[fast]")
