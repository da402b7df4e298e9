"""Layers that are compiled in place: the same losses, the same names, for micro-batches of changing length.

With the backend that captures graphs and differentiates them but generates no code: inductor takes two minutes to begin on two cores.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.contract.test_joined_rows import LORA, RECIPE, built, losses
from tests.support.runs import new_run
from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.recipe.recipe import load_recipe
from tuitune.trainer import kernels
from tuitune.trainer.build import build
from tuitune.trainer.effective import ledger
from tuitune.trainer.kernels import compile_layers, repeated_blocks, uncompiled

BACKEND = "aot_eager"


def graphs() -> int:
    """How many graphs have been compiled since `forget`."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.fixture(autouse=True)
def forget() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.mark.parametrize("again", ["false", "true"], ids=["kept", "recomputed"])
def test_compiled_layers_learn_the_same_and_the_adapter_has_the_same_names(tmp_path: Path, again: str) -> None:
    """Joined rows, whose length changes from one micro-batch to the next; float32 on the CPU: losses within 1e-4."""
    more = f", padding_free: auto, gradient_checkpointing: {again}"
    plain, compiled = built(tmp_path / "plain", more=more), built(tmp_path / "compiled", more=more)
    assert compile_layers(compiled.trainer.model, BACKEND) == compiled.trainer.model.config.num_hidden_layers
    expected, found = losses(plain), losses(compiled)
    assert found == pytest.approx(expected, abs=1e-4)
    saved = []
    for made, name in ((plain, "plain"), (compiled, "compiled")):
        made.trainer.save_model(str(tmp_path / name / "saved"))
        saved.append(load_file(tmp_path / name / "saved" / "adapter_model.safetensors"))
    assert list(saved[0]) == list(saved[1])
    assert not any("_orig_mod" in name for name in saved[1])
    assert list(compiled.trainer.model.state_dict()) == list(plain.trainer.model.state_dict())
    if again == "false":  # in a recomputed layer torch gives up where the CPU's attention reads the rows' borders
        assert 0 < graphs() <= 12


def test_answers_are_written_by_the_layers_as_they_were_written(tmp_path: Path) -> None:
    made = built(tmp_path / "run")
    model = made.trainer.model.eval()
    words = torch.arange(3, 9)[None]
    expected = model.generate(input_ids=words, max_new_tokens=5, do_sample=False, pad_token_id=0)
    compile_layers(model, BACKEND)
    with uncompiled(model):
        assert torch.equal(model.generate(input_ids=words, max_new_tokens=5, do_sample=False, pad_token_id=0), expected)
    assert graphs() == 0


def test_the_blocks_are_the_decoder_layers_and_nothing_inside_of_them(tmp_path: Path) -> None:
    model = built(tmp_path / "run").trainer.model
    assert list(repeated_blocks(model)) == list(model.get_base_model().model.layers)


def test_on_the_cpu_auto_leaves_both_alone_and_says_why(tmp_path: Path) -> None:
    made = built(tmp_path / "run", more=", torch_compile: auto, use_liger_kernel: auto")
    found = {entry.key: entry for entry in ledger(made) if entry.section == "training"}
    assert (found["torch_compile"].value, found["torch_compile"].source) == (False, "adjusted")
    assert found["torch_compile"].why == "on the CPU compiling takes longer than it saves"
    assert (found["use_liger_kernel"].value, found["use_liger_kernel"].why) == (False, "its kernels run on a GPU")


def test_where_it_is_left_out_nothing_is_compiled_and_nothing_said(tmp_path: Path) -> None:
    made = built(tmp_path / "run")
    assert ("training", "torch_compile") not in made.filled
    assert ("training", "use_liger_kernel") not in made.filled


def test_where_auto_compiles_the_ledger_says_how_many_layers_and_for_how_many_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "why_not_compiled", lambda *about, **more: "")
    made = built(tmp_path / "run", more=", torch_compile: auto")
    assert all(layer._compiled_call_impl is not None for layer in repeated_blocks(made.trainer.model))
    assert made.trainer.accelerator.state.dynamo_plugin.backend.value == "NO"  # the whole model is not compiled as well
    entry = next(entry for entry in ledger(made) if entry.key == "torch_compile")
    assert (entry.value, entry.source) == (True, "adjusted")
    assert entry.why == "2 layers, each by itself, for any length: 3 steps win back what it takes"


def test_a_backend_that_is_written_compiles_the_whole_model_as_transformers_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "why_not_compiled", lambda *about, **more: "")
    made = built(tmp_path / "run", more=", torch_compile: auto, torch_compile_backend: eager")
    assert made.trainer.accelerator.state.dynamo_plugin.backend.value == "EAGER"
    assert all(layer._compiled_call_impl is None for layer in repeated_blocks(made.trainer.model))


def test_where_auto_takes_liger_the_trainer_is_told_as_trl_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "why_no_liger", lambda *about: "")
    made = built(tmp_path / "run", more=", use_liger_kernel: auto")
    assert made.trainer.args.use_liger_kernel is True
    assert made.trainer.args.liger_kernel_config == {"fused_linear_cross_entropy": False}
    assert made.filled["training", "use_liger_kernel"].value is True


def test_the_run_s_steps_are_counted_as_transformers_counts_them(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl")
    text = RECIPE.format(model=model, data=data, batch=5, accumulation=3, adapter=LORA, more="")
    text = text.replace("max_steps: 3", "num_train_epochs: 0.6")
    run = new_run(folder, text)
    made = build(load_recipe(run.recipe, base=folder), run)
    counted = kernels.steps_of(made.trainer)
    made.trainer.train()
    assert counted == made.trainer.state.max_steps
