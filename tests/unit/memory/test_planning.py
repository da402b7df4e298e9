"""From a recipe to the plan: what is filled in, what is refused, and the document that scripts read."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_shapes import CONFIGS
from tests.unit.test_import_rules import SLOW, TORCH_STACK, loaded_after
from tuitune import cli
from tuitune.dataset.lengths import COUNTS, Lengths, stamp
from tuitune.dataset.looked_at import remember
from tuitune.errors import UserError
from tuitune.memory.report import document
from tuitune.memory.settings import Settings
from tuitune.planning import read_recipe
from tuitune.preflight.cards import parse_card
from tuitune.recipe.recipe import load_recipe

QLORA = """
task: sft
model: {name_or_path: ./model, dtype: bfloat16}
quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_use_double_quant: true}
peft: {r: 16, target_modules: all-linear}
dataset:
  train: [{path: t.jsonl}]
  eval: [{path: e.jsonl}]
training: {max_length: 2048, per_device_train_batch_size: 4, gradient_accumulation_steps: 4, eval_strategy: steps}
"""
FULL = "task: sft\nmodel: {name_or_path: ./model}\ndataset: {train: [{path: t.jsonl}]}\n"


def write(folder: Path, text: str = QLORA, model: str = "llama3.1-8b") -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(CONFIGS[model]))
    (folder / "r.yaml").write_text(text)
    return folder / "r.yaml"


def settings(folder: Path, text: str, card: str = "RTX 4090") -> Settings:
    return read_recipe(write(folder, text), parse_card(card)).settings


def test_a_written_recipe_is_planned_as_the_trainer_would_fill_it_in(tmp_path: Path) -> None:
    assert settings(tmp_path, QLORA) == Settings(
        length=2048,
        batch=4,
        accumulation=4,
        weights="nf4 double",
        adapter_bytes=4,  # launch.adapter_dtype is float32 when it is absent
        input_casts=False,  # they read what the layers read
        packed=True,  # rows of a batch are joined, and
        attention="flash",  # kept apart by the kernel's bounds
        eval_batch=4,  # the training batch, not the library's 8
    )


def test_rows_are_padded_where_the_recipe_says_so_or_names_its_attention(tmp_path: Path) -> None:
    for change in (
        ("padding_free: false", QLORA.replace("training: {", "training: {padding_free: false, ")),
        ("sdpa", QLORA.replace("dtype: bfloat16}", "dtype: bfloat16, attn_implementation: sdpa}")),
    ):
        folder = tmp_path / change[0].replace(":", "")
        folder.mkdir()
        found = settings(folder, change[1])
        assert (found.packed, found.padded, found.attention) == (False, True, "sdpa"), change[0]


def test_an_empty_recipe_is_planned_with_the_library_s_defaults(tmp_path: Path) -> None:
    found = settings(tmp_path, FULL)
    assert (found.length, found.batch, found.lora, found.weights, found.amp) == (1024, 8, False, "float32", True)
    assert (found.checkpoint_every, found.optimizer, found.eval_batch) == (1, "adamw_torch_fused", 0)


@pytest.mark.parametrize(
    ("added", "field", "value"),
    [
        ("training: {gradient_checkpointing: false}", "checkpoint_every", 0),
        ("training: {activation_checkpointing_kwargs: {every_n_layers: 3}}", "checkpoint_every", 3),
        ("training: {packing: true, packing_strategy: bfd_split}", "packed", True),
        ("training: {packing: true, packing_strategy: wrapped}", "packed", False),
        ("training: {label_smoothing_factor: 0.1}", "loss", "smoothed"),
        ("training: {per_device_train_batch_size: 1}", "padded", False),
        ("peft: {r: 8, target_modules: [q_proj]}", "targets", ("q_proj",)),
        ("peft: {}\nlaunch: {adapter_dtype: bfloat16}", "adapter_bytes", 2),
    ],
)
def test_what_a_recipe_says_reaches_the_plan(added: str, field: str, value: Any, tmp_path: Path) -> None:
    assert getattr(settings(tmp_path, FULL + added), field) == value


@pytest.mark.parametrize(
    ("task", "more", "reference"),
    [
        ("dpo", "", "model"),
        ("dpo", "peft: {}", "shared"),
        ("dpo", "training: {precompute_ref_log_probs: true}", "none"),
        ("sft", "", "none"),
    ],
)
def test_the_reference_of_dpo_is_planned_as_trl_makes_it(task: str, more: str, reference: str, tmp_path: Path) -> None:
    assert settings(tmp_path, FULL.replace("sft", task) + more).reference == reference


def test_a_card_without_bfloat16_is_planned_in_float16(tmp_path: Path) -> None:
    assert settings(tmp_path, FULL + "peft: {}", card="T4").weights == "float16"


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("peft: {use_dora: true}", r"no memory plan with peft.use_dora yet"),
        ("peft: {r: 8}\nquantization: {load_in_8bit: true}", r"no memory plan with quantization.load_in_8bit yet"),
        ("training: {torch_compile: true}", r"no memory plan with training.torch_compile yet"),
        ("training: {max_length: null}", r"max_length says nothing"),
        ("training: {optim: adafactor}", r"no memory plan for optim: adafactor yet"),
        ("launch: {gpus: cpu}", r"trains on the CPU"),
    ],
)
def test_what_the_plan_does_not_count_is_refused_in_one_sentence(added: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, FULL + added)
    with pytest.raises(UserError, match=said):
        document(read_recipe(path, parse_card("H200")))


def test_a_model_that_is_not_here_is_fetched_with_one_command(tmp_path: Path) -> None:
    path = write(tmp_path, FULL.replace("./model", "nobody/nothing"))
    with pytest.raises(UserError, match=r"hf download nobody/nothing config\.json"):
        read_recipe(path, None)


def test_the_document_is_what_scripts_build_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert cli.main(["plan", str(path), "--gpu", "RTX 4090", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    assert found["length"] == {
        **{"tokens": 2048, "from": "max_length", "why": "the data has not been looked at"},
        **{"batch": 4 * 2048, "evaluation": 2048, "data": None},
    }
    assert found["fits"] is True
    assert found["margin"] == found["card"]["memory"] - found["peak"]["nvml"] + found["peak"]["paged"]
    at_peak = [one["bytes"] for one in found["components"] if one["phase"] == found["peak"]["phase"]]
    assert sum(at_peak) == found["peak"]["allocated"] == found["phases"][found["peak"]["phase"]]
    outside = [one["bytes"] for one in found["components"] if one["phase"] == "process"]
    assert found["peak"]["allocated"] + sum(outside) == found["peak"]["nvml"]
    assert set(found["largest"]) == {"batch", "length"}
    assert {card["name"] for card in found["cards"]} >= {"RTX 4090", "H100"}


def test_a_run_that_does_not_fit_exits_with_1_and_says_what_to_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    assert cli.main(["plan", str(path), "--gpu", "9GiB,cc8.9", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (advice, *_) = found["advice"]
    assert found["fits"] is False
    assert advice["change"]["key"] == "training.per_device_train_batch_size"
    assert advice["change"]["value"] * advice["change"]["with"]["training.gradient_accumulation_steps"] == 16
    assert cli.main(["plan", str(path), "--gpu", "9GiB,cc8.9"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("does not fit on GPU, 9.00 GiB")
    assert "gradient_accumulation_steps: 16" in printed


def test_without_a_card_the_plan_says_what_is_needed_and_judges_nothing(tmp_path: Path) -> None:
    found = document(read_recipe(write(tmp_path), None))
    assert found["card"] is found["fits"] is found["largest"] is None
    assert found["peak"]["nvml"] > 8 << 30


def look_at(path: Path, longest: int, evaluation: int | None = None) -> None:
    """As a survey leaves it: 100 sequences of this length, a quarter of each in the loss."""
    for name in ("t.jsonl", "e.jsonl"):
        (path.parent / name).write_text("{}\n")
    recipe = load_recipe(path)
    sums = tuple(min(count, 100) * longest for count in COUNTS)
    lengths = Lengths(100, 100 * longest, sums, tuple(tokens // 4 for tokens in sums), evaluation)
    remember(recipe, "data", "rows", lengths, stamp(recipe))


def test_the_longest_row_of_the_data_decides_where_it_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    before = document(read_recipe(path, None))
    look_at(path, 500, evaluation=900)
    found = document(read_recipe(path, None))
    assert found["length"] == {
        **{"tokens": 500, "from": "data", "why": "", "batch": 2000, "evaluation": 900},
        "data": {"sequences": 100, "tokens": 50_000},
    }
    assert found["settings"]["scored"] == 0.25
    assert found["peak"]["allocated"] < before["peak"]["allocated"]
    cli.main(["plan", str(path), "--gpu", "H100"])
    printed = capsys.readouterr().out
    assert (
        "planned for 2,000 tokens at once: the 4 longest sequences of 100 in the data (mean 500), the longest 500; evaluation rows of 900"
        in printed
    )


def test_rows_of_unknown_length_are_planned_at_max_length_and_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    cli.main(["plan", str(path), "--gpu", "H100"])
    assert (
        "4 rows of 2,048 tokens at once: training.max_length (the data has not been looked at; `tuitune check`" in capsys.readouterr().out
    )
    look_at(path, 500)
    found = document(read_recipe(path, None))
    assert found["length"]["evaluation"] == 2048, "evaluation rows that nobody prepared"


def test_without_max_length_the_data_says_how_long_rows_are(tmp_path: Path) -> None:
    path = write(tmp_path, FULL + "training: {max_length: null, padding_free: true, per_device_train_batch_size: 4}")
    with pytest.raises(UserError, match="let `tuitune check` look at the data"):
        read_recipe(path, None)
    look_at(path, 700)
    found = read_recipe(path, None).settings
    assert (found.length, found.tokens, found.packed) == (700, 2800, True)


def test_evaluation_rows_of_any_length_are_not_guessed_at(tmp_path: Path) -> None:
    path = write(tmp_path, QLORA.replace("max_length: 2048", "max_length: null"))
    look_at(path, 700, evaluation=None)
    with pytest.raises(UserError, match=r"how long the rows of dataset\.eval are"):
        read_recipe(path, None)
    look_at(path, 700, evaluation=800)
    assert read_recipe(path, None).settings.evaluated_length == 800


def test_padding_to_a_multiple_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path, FULL + "training: {pad_to_multiple_of: 64}")
    look_at(path, 500)
    assert read_recipe(path, None).settings.length == 512


def test_weights_beyond_the_language_model_are_counted(tmp_path: Path) -> None:
    from tuitune.memory.families import read_shape

    path = write(tmp_path, model="smollm2-135m")
    shape = read_shape(CONFIGS["smollm2-135m"])
    held = shape.parameters + 1_000_000
    header = json.dumps({"all": {"dtype": "BF16", "shape": [held], "data_offsets": [0, 2 * held]}}).encode()
    with (tmp_path / "model" / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2 * held)  # a sparse file: the weights themselves are not read
    assert read_recipe(path, None).shape.parameters == held


def test_planning_loads_neither_the_torch_stack_nor_anything_slow(tmp_path: Path) -> None:
    path = write(tmp_path)
    run = f"from tuitune.cli import main\nmain(['plan', {str(path)!r}, '--gpu', 'H100', '--json'])"
    assert not loaded_after(run) & (TORCH_STACK | (SLOW - {"huggingface_hub"}))
