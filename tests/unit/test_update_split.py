"""`launch.rows_per_update`: the update stays as the recipe says, however it is taken apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.model_shapes import CONFIGS
from tuitune.errors import UserError
from tuitune.memory.families import read_shape
from tuitune.memory.fastest import Split, fitting
from tuitune.memory.settings import Device, Settings
from tuitune.planning import Planned
from tuitune.preflight.cards import CPU, parse_card
from tuitune.recipe.document import read_document
from tuitune.recipe.ledger import LedgerEntry, write_ledger
from tuitune.recipe.recipe import Recipe, load_recipe
from tuitune.recipe.schema import load_schema
from tuitune.recipe.update_rows import ACCUMULATION, BATCH
from tuitune.recipe.validate import validate
from tuitune.runs.directory import RunDirectory
from tuitune.update_split import AGAIN, AGAIN_KWARGS, as_before, rows_of_each, settle, splits

SHAPE = read_shape(CONFIGS["qwen2.5-1.5b"])
SETTINGS = Settings(length=2048, batch=16, packed=True, attention="flash")
GIB = 1 << 30
TEXT = """task: sft
model: {{name_or_path: some/model}}
peft: {{r: 16}}
dataset: {{train: [{{path: rows.jsonl}}]}}
launch: {{rows_per_update: {rows}{launch}}}
training: {{max_length: 2048{training}}}
"""


def recipe(folder: Path, rows: int = 16, launch: str = "", training: str = "") -> Recipe:
    (folder / "rows.jsonl").write_text('{"text": "a"}\n')
    file = folder / "recipe.yaml"
    file.write_text(TEXT.format(rows=rows, launch=launch, training=training))
    return load_recipe(file)


def planned(of: Recipe) -> Planned:
    return Planned(of.file, SHAPE, replace(SETTINGS, batch=of.training[BATCH]), "max_length", None)


def problems(folder: Path, text: str) -> list[str]:
    file = folder / "recipe.yaml"
    file.write_text(text)
    return [problem.message for problem in validate(read_document(file), load_schema()) if problem.severity == "error"]


def fastest(memory: int) -> Split:
    """On an H200 with so many GiB."""
    return fitting(SHAPE, SETTINGS, Device(), memory * GIB, "H200", 16)[0]


@pytest.mark.parametrize("memory", [8, 12, 24, 80, 140])
def test_batch_times_accumulation_is_always_what_the_recipe_says(memory: int) -> None:
    for split in fitting(SHAPE, SETTINGS, Device(), memory * GIB, "H200", 16):
        assert split.settings.batch * split.settings.accumulation == 16
        assert split.plan.needed <= 0.95 * memory * GIB


def test_more_memory_is_never_slower() -> None:
    seconds = []
    for memory in (6, 8, 12, 24, 48, 80, 140):
        seconds.append(fastest(memory).seconds)
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] < 0.75 * seconds[0]


def test_with_room_nothing_is_computed_again_and_without_it_layers_are() -> None:
    with_room, tight = fastest(140), fastest(8)
    assert with_room.settings.checkpoint_every == 0
    assert tight.settings.checkpoint_every > 0


def test_what_fits_nowhere_has_no_split() -> None:
    assert not fitting(SHAPE, SETTINGS, Device(), 2 * GIB, "H200", 16)


def test_the_choice_is_written_into_the_recipe_with_its_reasons(tmp_path: Path) -> None:
    made, chosen = settle(recipe(tmp_path), parse_card("H200"), planned)
    assert made.training[BATCH] * made.training[ACCUMULATION] == 16
    assert made.training[AGAIN] is False
    assert "of 139.8 GiB" in chosen[BATCH].why


def test_a_small_card_gets_smaller_micro_batches_or_computes_again(tmp_path: Path) -> None:
    made, chosen = settle(recipe(tmp_path), parse_card("8GiB,cc8.9"), planned)
    assert made.training[BATCH] * made.training[ACCUMULATION] == 16
    assert chosen[AGAIN].value is True


def test_what_the_recipe_says_of_recomputation_stays(tmp_path: Path) -> None:
    made, chosen = settle(recipe(tmp_path, training=", activation_checkpointing: true"), parse_card("H200"), planned)
    assert made.training[AGAIN] is True
    assert not {AGAIN, AGAIN_KWARGS} & chosen.keys()


def test_on_the_cpu_an_update_is_one_micro_batch(tmp_path: Path) -> None:
    made, _ = settle(recipe(tmp_path, launch=", gpus: cpu"), CPU, planned)
    assert (made.training[BATCH], made.training[ACCUMULATION], made.training[AGAIN]) == (16, 1, False)


def test_what_may_be_measured_begins_with_what_is_taken_and_has_each_micro_batch_once(tmp_path: Path) -> None:
    """With the least recomputation that fits: more of it would be more work only."""
    given = recipe(tmp_path)
    found = splits(given, parse_card("18GiB,cc8.9"), planned)
    assert found[0] == settle(given, parse_card("18GiB,cc8.9"), planned)[1]
    assert sorted(one[BATCH].value for one in found) == [1, 2, 4, 8, 16]
    assert all(one[BATCH].value * one[ACCUMULATION].value == 16 for one in found)
    again = {one[BATCH].value: one[AGAIN].value for one in found}
    assert (again[1], again[16]) == (False, True)


def test_on_the_cpu_smaller_micro_batches_may_be_measured_too(tmp_path: Path) -> None:
    found = splits(recipe(tmp_path, rows=6, launch=", gpus: cpu"), CPU, planned)
    assert [(one[BATCH].value, one[ACCUMULATION].value) for one in found] == [(6, 1), (3, 2), (2, 3), (1, 6)]
    assert splits(recipe(tmp_path, launch=", gpus: cpu"), CPU, planned)[0][AGAIN].value is False


def test_of_several_gpus_each_takes_its_part(tmp_path: Path) -> None:
    assert rows_of_each(recipe(tmp_path, launch=", gpus: 4")) == 4


def test_a_card_on_which_nothing_fits_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipe.yaml:5: not even one row at a time fits GPU \(2.0 GiB\)"):
        settle(recipe(tmp_path), parse_card("2GiB,cc8.9"), planned)


def test_without_a_plan_the_remedy_is_told(tmp_path: Path) -> None:
    def refuses(of: Recipe) -> Planned:
        raise UserError("no figures")

    with pytest.raises(UserError, match=r"needs a memory plan .no figures.; or write training\.per_device_train_batch_size"):
        settle(recipe(tmp_path), parse_card("H200"), refuses)


def test_batches_written_by_a_retry_count(tmp_path: Path) -> None:
    given = recipe(tmp_path)
    given.training.update({BATCH: 2, ACCUMULATION: 8})
    assert settle(given, parse_card("H200"), planned) == (given, {})


def test_a_recipe_that_says_two_things_has_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    said = problems(tmp_path, TEXT.format(rows=16, launch="", training=", gradient_accumulation_steps: 4"))
    assert said == ["launch.rows_per_update chooses training.gradient_accumulation_steps: remove one of the two"]
    assert "write a multiple of 3" in problems(tmp_path, TEXT.format(rows=16, launch=", gpus: 3", training=""))[0]
    assert "one row at least" in problems(tmp_path, TEXT.format(rows=0, launch="", training=""))[0]


def test_a_resumed_run_keeps_the_micro_batches_of_its_first_attempt(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    entries = [
        LedgerEntry("training", BATCH, 8, "adjusted", None, "it fitted"),
        LedgerEntry("training", "gradient_checkpointing", True, "adjusted", None, "it saved memory"),
        LedgerEntry("training", "learning_rate", 1e-4, "recipe", 3),
    ]
    write_ledger(run.effective, entries)
    assert {key: fill.value for key, fill in as_before(run.effective).items()} == {BATCH: 8, AGAIN: True}
    assert as_before(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TEXT.format(rows=16, launch=", measure_split: true", training=""), None),
        (TEXT.format(rows="null", launch=", measure_split: true", training=""), "and that is not set"),
        (TEXT.format(rows=16, launch=", measure_split: true, gpus: 2", training=""), "it measures on one GPU"),
        (TEXT.format(rows=16, launch=", measure_split: true", training=", torch_compile: true"), "would compile every candidate anew"),
        (TEXT.format(rows=16, launch=", measure_split: true", training="").replace("task: sft", "task: kto"), "tasks sft, dpo and reward"),
        (TEXT.format(rows="null", launch=", measure_split: false", training=""), None),
    ],
)
def test_where_nothing_can_be_measured_a_warning_says_so(tmp_path: Path, text: str, told: str | None) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    found = [problem for problem in validate(read_document(file), load_schema()) if "measure_split" in problem.message]
    assert [(problem.code, problem.severity, problem.line) for problem in found] == ([("RCP025", "warning", 5)] if told else [])
    assert all(told in problem.message for problem in found if told)


def test_measure_split_is_true_or_false(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (told,) = problems(tmp_path, TEXT.format(rows=16, launch=", measure_split: soon", training=""))
    assert "`measure_split` must be true or false" in told
