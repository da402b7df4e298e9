"""The trainer's view of a recipe, the ledger, and the validate report."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from tuitune.errors import UserError
from tuitune.recipe.ledger import LedgerEntry, read_ledger, write_ledger
from tuitune.recipe.recipe import canonical_training, load_recipe
from tuitune.recipe.report import as_json, print_problems, validate_file
from tuitune.recipe.schema import Schema

from .conftest import GOOD


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "qlora.yaml"
    file.write_text(GOOD)
    return file


def test_sections_keep_the_libraries_names(recipe_file: Path, schema: Schema) -> None:
    recipe = load_recipe(recipe_file, schema=schema)
    assert (recipe.name, recipe.task) == ("gsm8k", "sft")
    assert recipe.quantization == {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert recipe.peft == {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
    assert recipe.training == {"learning_rate": 2e-4, "eval_strategy": "no", "max_length": 2048}
    assert recipe.line("training", "learning_rate") == 23
    assert recipe.line("training", "seed") is None


def test_absent_sections_are_empty_or_none_where_absence_means_something(tmp_path: Path, schema: Schema) -> None:
    file = tmp_path / "my small one.yaml"
    file.write_text("task: sft\nmodel: {name_or_path: m}\ndataset: {train: [{path: x.jsonl}]}\n")
    recipe = load_recipe(file, schema=schema)
    assert recipe.name == "my-small-one"  # names the run directory
    assert (recipe.peft, recipe.quantization, recipe.watch) == (None, None, None)
    assert (recipe.tokenizer, recipe.training, recipe.launch) == ({}, {}, {})
    assert recipe.dataset["eval"] == []


def test_paths_are_relative_to_the_recipe_and_hub_ids_stay(recipe_file: Path, schema: Schema) -> None:
    folder = recipe_file.parent
    recipe = load_recipe(recipe_file, schema=schema)
    assert recipe.model["name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert recipe.dataset["train"][0]["path"] == str(folder / "data/train.jsonl")
    assert recipe.output["runs"] == "runs"  # relative to the workspace
    (folder / "HuggingFaceTB/SmolLM2-135M-Instruct").mkdir(parents=True)
    assert load_recipe(recipe_file, schema=schema).model["name_or_path"] == str(folder / "HuggingFaceTB/SmolLM2-135M-Instruct")


def test_a_copy_in_a_run_directory_keeps_the_base_of_the_original(tmp_path: Path, schema: Schema) -> None:
    copy = tmp_path / "run" / "recipe.yaml"
    copy.parent.mkdir()
    copy.write_text(GOOD.replace("data/train.jsonl", "../data/train.jsonl"))
    recipe = load_recipe(copy, base=tmp_path / "recipes", schema=schema)
    assert recipe.dataset["train"][0]["path"] == str(tmp_path / "data/train.jsonl")


def test_a_hub_dataset_is_no_path(tmp_path: Path, schema: Schema) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("task: sft\nmodel: {name_or_path: ./local}\ndataset: {train: [{path: openai/gsm8k, subset: main, split: train}]}\n")
    recipe = load_recipe(file, schema=schema)
    assert recipe.dataset["train"] == [{"path": "openai/gsm8k", "subset": "main", "split": "train"}]
    assert recipe.model["name_or_path"] == str(tmp_path / "local")


def test_errors_refuse_the_recipe_and_all_are_listed(recipe_file: Path, schema: Schema) -> None:
    recipe_file.write_text(GOOD.replace("2e-4 ", "fast ").replace("r: 16", "r: 0"))
    with pytest.raises(UserError) as raised:
        load_recipe(recipe_file, schema=schema)
    lines = str(raised.value).split("\n")
    assert lines[0].endswith("has 2 problems; nothing was started:")
    assert lines[1].startswith(f"{recipe_file}:10:11: `r` must be at least 1")
    assert lines[2].startswith(f"{recipe_file}:23:18: `learning_rate` must be a number")


def test_warnings_do_not_refuse_it(recipe_file: Path, schema: Schema) -> None:
    recipe_file.write_text(GOOD.replace("max_length: 2048", "use_liger_kernel: true"))
    assert load_recipe(recipe_file, schema=schema).training["use_liger_kernel"] is True


@pytest.mark.parametrize("written", ["activation_checkpointing", "gradient_checkpointing"])
@pytest.mark.parametrize(
    ("installed", "passed"),
    [
        ({"activation_checkpointing", "gradient_checkpointing"}, "activation_checkpointing"),
        ({"gradient_checkpointing"}, "gradient_checkpointing"),
        ({"activation_checkpointing"}, "activation_checkpointing"),
    ],
)
def test_the_installed_name_is_passed_on(written: str, installed: set[str], passed: str, recipe_file: Path, schema: Schema) -> None:
    recipe_file.write_text(GOOD.replace("max_length: 2048", f"{written}: false"))
    arguments = canonical_training(load_recipe(recipe_file, schema=schema), installed | {"learning_rate", "eval_strategy"})
    assert arguments == {"learning_rate": 2e-4, "eval_strategy": "no", passed: False}


def test_auto_is_left_out_where_tuitune_chooses_and_kept_where_the_library_does(recipe_file: Path, schema: Schema) -> None:
    recipe_file.write_text(GOOD.replace("max_length: 2048", "bf16: auto\n  pad_to_multiple_of: auto"))
    fields = {"learning_rate", "eval_strategy", "bf16", "pad_to_multiple_of"}
    arguments = canonical_training(load_recipe(recipe_file, schema=schema), fields)
    assert arguments == {"learning_rate": 2e-4, "eval_strategy": "no", "pad_to_multiple_of": "auto"}


def test_a_field_that_is_not_installed_is_named_with_its_line(recipe_file: Path, schema: Schema) -> None:
    with pytest.raises(UserError, match=r"qlora\.yaml:25: `max_length` is no field"):
        canonical_training(load_recipe(recipe_file, schema=schema), {"learning_rate", "eval_strategy"})


def test_the_ledger_comes_back_as_it_was_written(tmp_path: Path) -> None:
    entries = [
        LedgerEntry("training", "learning_rate", 2e-4, "recipe", line=23),
        LedgerEntry("training", "bf16", True, "adjusted", why="the GPU can"),
        LedgerEntry("peft", "target_modules", ["q_proj", "v_proj"], "default"),
    ]
    write_ledger(tmp_path / "effective.json", entries)
    assert read_ledger(tmp_path / "effective.json") == entries
    assert json.loads((tmp_path / "effective.json").read_text())["schema"] == 1


def test_the_ledger_writes_what_json_cannot_say_as_text(tmp_path: Path) -> None:
    odd = {"path": Path("/x"), "set": {"b", "a"}, "infinite": math.inf, "tuple": (1, 2)}
    write_ledger(tmp_path / "effective.json", [LedgerEntry("training", "odd", odd, "default")])
    assert read_ledger(tmp_path / "effective.json")[0].value == {"path": "/x", "set": ["a", "b"], "infinite": "inf", "tuple": [1, 2]}


@pytest.mark.parametrize("content", [None, "", "{}", '{"schema": 1, "values": [{"odd": 1}]}'])
def test_a_damaged_ledger_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "effective.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=r"effective\.json (are damaged|cannot be read)"):
        read_ledger(file)


def test_the_report_for_scripts(recipe_file: Path, schema: Schema) -> None:
    recipe_file.write_text(GOOD.replace("max_length: 2048", "max_seq_length: 2048\n  use_liger_kernel: true"))
    document = as_json(validate_file(recipe_file, schema), recipe_file)
    assert json.loads(json.dumps(document)) == document
    assert document["schema"] == 1
    assert document["summary"] == {"errors": 1, "warnings": 1}
    first = document["problems"][0]
    assert {name: first[name] for name in ("code", "severity", "line", "column", "end_column", "path")} == {
        "code": "RCP012",
        "severity": "error",
        "line": 25,
        "column": 3,
        "end_column": 17,
        "path": "training.max_seq_length",
    }
    assert first["fix"]["title"] == "Rename to `max_length`"
    assert first["fix"]["edits"][0]["text"] == "max_length"


def test_the_report_for_people(recipe_file: Path, schema: Schema) -> None:
    recipe_file.write_text(GOOD.replace("max_length: 2048", "max_seq_length: 2048"))
    output = io.StringIO()
    print_problems(validate_file(recipe_file, schema), Console(file=output, width=400), recipe_file)
    assert output.getvalue().splitlines() == [
        f"{recipe_file}:25:3  error RCP012  `max_seq_length` is now `max_length`",
        "    fix: Rename to `max_length`",
        "1 error, 0 warnings",
    ]
    recipe_file.write_text(GOOD)
    output = io.StringIO()
    print_problems(validate_file(recipe_file, schema), Console(file=output, width=400), recipe_file)
    assert output.getvalue() == f"{recipe_file}: no problems\n"
