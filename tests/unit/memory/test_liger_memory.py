"""Liger's kernels in the memory plan: against peaks that one H200 had with and without them (../shared/gpu/README.md), and in recipes."""

from dataclasses import replace
from importlib import util
from pathlib import Path

import pytest

from tests.support.model_shapes import CONFIGS
from tests.unit.memory.test_planning import FULL, write
from tuitune.errors import UserError
from tuitune.memory.families import read_shape
from tuitune.memory.plan import plan
from tuitune.memory.settings import Device, Settings
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card

GIB = 1 << 30
QWEN = read_shape(CONFIGS["qwen2.5-1.5b"])
LORA = Settings(length=2048, batch=4, checkpoint_every=0, packed=True, attention="flash", rank=16)


def gib(settings: Settings) -> float:
    return plan(QWEN, settings, Device()).allocated / GIB


@pytest.mark.parametrize(
    ("without", "measured", "with_liger"),
    [
        (replace(LORA, attention="sdpa"), 31.8, 26.7),
        (replace(LORA, batch=8), 51.2, 40.8),
    ],
    ids=["4 x 2048, sdpa", "8 x 2048, varlen"],
)
def test_liger_saves_what_it_saved_on_the_gpu(without: Settings, measured: float, with_liger: float) -> None:
    """The measured peaks are given to a tenth of a GiB; the difference is within 0.2 GiB, the peaks within 2 %."""
    assert gib(without) - gib(replace(without, liger=True)) == pytest.approx(measured - with_liger, abs=0.2)
    assert gib(without) == pytest.approx(measured, rel=0.02)
    assert gib(replace(without, liger=True)) == pytest.approx(with_liger, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "measured"),
    [
        (replace(LORA, attention="sdpa", checkpoint_every=1), 5.17),
        (LORA, 22.0),
        (replace(LORA, batch=8, weights="nf4 double", adapter_bytes=2), 33.2),
    ],
    ids=["4 x 2048, sdpa, checkpointing", "4 x 2048, varlen", "QLoRA 8 x 2048, varlen"],
)
def test_runs_with_liger_are_as_high_as_on_the_gpu(settings: Settings, measured: float) -> None:
    assert gib(replace(settings, liger=True)) == pytest.approx(measured, rel=0.02)


def settings(folder: Path, more: str, card: str = "H200") -> Settings:
    place = folder / str(len(list(folder.iterdir())))
    place.mkdir()
    return read_recipe(write(place, FULL + more), parse_card(card)).settings


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = util.find_spec
    there = ("liger_kernel", "triton")
    monkeypatch.setattr("tuitune.trainer.kernel_choice.find_spec", lambda name: util if name in there else real(name))
    monkeypatch.setattr("tuitune.trainer.kernel_choice.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("more", "card", "liger"),
    [
        ("peft: {}", "H200", False),  # it is asked for, as long as a GPU's figures are not in
        ("peft: {}\ntraining: {use_liger_kernel: auto}", "H200", True),
        ("peft: {}\ntraining: {use_liger_kernel: false}", "H200", False),
        ("peft: {}\ntraining: {use_liger_kernel: auto}", "T4", False),
        ("training: {use_liger_kernel: auto}", "H200", False),  # trained as a whole the weights are float32
        ("training: {use_liger_kernel: true}", "H200", True),
    ],
)
def test_the_plan_takes_liger_where_the_trainer_does(more: str, card: str, liger: bool, tmp_path: Path, installed: None) -> None:
    assert settings(tmp_path, more, card).liger is liger


def test_without_liger_installed_it_is_planned_only_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuitune.trainer.kernel_choice.find_spec", lambda name: None)
    assert settings(tmp_path, "peft: {}\ntraining: {use_liger_kernel: auto}").liger is False
    assert settings(tmp_path, "peft: {}\ntraining: {use_liger_kernel: true}").liger is True


def test_a_task_whose_loss_liger_would_replace_has_no_plan_with_it(tmp_path: Path) -> None:
    path = write(tmp_path, FULL.replace("task: sft", "task: reward") + "peft: {}\ntraining: {use_liger_kernel: true}")
    with pytest.raises(UserError, match="no memory plan with use_liger_kernel for reward of a"):
        read_recipe(path, parse_card("H200"))


def test_layers_that_may_be_compiled_are_planned_as_they_are(tmp_path: Path) -> None:
    assert settings(tmp_path, "peft: {}\ntraining: {torch_compile: auto}") == settings(tmp_path, "peft: {}")
