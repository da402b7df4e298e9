"""What the survey keeps for the memory plan is never below the micro-batches that the real trainer's collator makes of the rows."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_inspection import CHAT
from tests.contract.test_survey import recipe, survey, trainers_own
from tests.support.living_hub import until
from tests.support.tiny_model import write_conversations
from tuitune.dataset.looked_at import known_lengths
from tuitune.memory.settings import Settings
from tuitune.planning import plan_recipe
from tuitune.preflight.cards import parse_card
from tuitune.recipe.schema import load_schema

PAIRS = "{prompt: question, chosen: answer, rejected: wrong}"
SHORT_EVAL = "  eval: [{path: eval.jsonl, columns: " + CHAT + "}]\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Rows of very different lengths, and an evaluation set that is shorter."""
    write_conversations(tmp_path / "train.jsonl")
    rows = [
        {"question": "why " * (number % 7), "answer": "so " * (3 * number % 50), "wrong": "no " * (number % 31)} for number in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = (tmp_path / "train.jsonl").read_text().splitlines()[0]
    (tmp_path / "eval.jsonl").write_text(first + "\n")
    return tmp_path


def planned(loaded: Any) -> Settings:
    found = plan_recipe(loaded, load_schema(), parse_card("H100"))
    assert found.length_from == "data"
    return found.settings


def micro_batches(loaded: Any, batch: int) -> list[dict[str, Any]]:
    """Batches of the trainer's own collator over its own rows: shuffled some times, and its longest rows together."""
    built = trainers_own(loaded)
    rows = [
        {name: value for name, value in row.items() if isinstance(value, list) and all(isinstance(one, int) for one in value)}
        for row in built.trainer.train_dataset
    ]
    orders = [random.Random(seed).sample(rows, len(rows)) for seed in range(5)]
    orders.append(sorted(rows, key=lambda row: -sum(len(value) for value in row.values())))
    return [built.trainer.data_collator(order[at : at + batch]) for order in orders for at in range(0, len(order), batch)]


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"max_length": 512},
        {"max_length": None},
        {"max_length": 512, "pad_to_multiple_of": 64},
        {"max_length": None, "padding_free": True},
        {"max_length": 512, "padding_free": "auto"},
        {"packing": True, "packing_strategy": "bfd", "max_length": 96},
        {"packing": True, "packing_strategy": "bfd_split", "max_length": 48},
        {"packing": True, "packing_strategy": "wrapped", "max_length": 48},
        {"assistant_only_loss": True, "max_length": None, "padding_free": True},
    ],
    ids=lambda training: " ".join(f"{key}={value}" for key, value in training.items()) or "plain",
)
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_no_micro_batch_is_longer_than_the_planned_one(training: dict[str, Any], batch: int, tiny_model: Path, workspace: Path) -> None:
    said = {"padding_free": False, **training}  # the plan is of a GPU, these micro-batches are the CPU's, where rows are joined unasked
    loaded = recipe(tiny_model, workspace, CHAT, {**said, "per_device_train_batch_size": batch})
    survey(loaded)
    settings = planned(loaded)
    batches = micro_batches(loaded, batch)
    longest = max(one["input_ids"].numel() for one in batches)
    assert longest <= settings.tokens
    if batch in (1, 4):  # powers of two are exact
        assert settings.tokens == longest
    assert max(int((one["labels"] != -100).sum()) for one in batches) <= round(settings.tokens * settings.scored)


@pytest.mark.parametrize("max_length", [24, 512])
def test_a_preference_pair_counts_as_its_longer_side_twice(max_length: int, tiny_model: Path, workspace: Path) -> None:
    loaded = recipe(
        *(tiny_model, workspace, PAIRS, {"max_length": max_length, "per_device_train_batch_size": 2}), task="dpo", file="pairs.jsonl"
    )
    survey(loaded)
    settings = planned(loaded)
    batches = micro_batches(loaded, 2)
    assert settings.tokens == max(one["input_ids"].numel() for one in batches)
    assert max(int(one["completion_mask"].sum()) for one in batches) <= round(settings.tokens * settings.scored)


def test_the_evaluation_is_planned_with_its_own_longest_row(tiny_model: Path, workspace: Path) -> None:
    training = {"max_length": 512, "eval_strategy": "steps", "per_device_eval_batch_size": 2}
    loaded = recipe(tiny_model, workspace, CHAT, training, more=SHORT_EVAL)
    survey(loaded)
    settings = planned(loaded)
    built = trainers_own(loaded)
    assert settings.evaluated_length == len(built.trainer.eval_dataset[0]["input_ids"]) < settings.length


def test_packed_evaluation_rows_may_be_as_long_as_max_length(tiny_model: Path, workspace: Path) -> None:
    training = {"max_length": 512, "eval_strategy": "steps", "eval_packing": True}
    loaded = recipe(tiny_model, workspace, CHAT, training, more=SHORT_EVAL)
    survey(loaded)
    assert planned(loaded).evaluated_length == 512


def test_preflight_keeps_the_same_lengths_as_the_survey(tiny_model: Path, workspace: Path, command: Any) -> None:
    loaded = recipe(tiny_model, workspace, CHAT, {"max_length": 500})
    assert known_lengths(loaded)[0] is None
    command("check", str(loaded.file), "--gpu", "H100")
    checked = until(lambda: known_lengths(loaded)[0], 60)  # the analyst answers first and remembers afterwards
    survey(loaded)
    assert checked == known_lengths(loaded)[0] is not None


def test_a_sample_says_nothing_of_the_longest_row(tiny_model: Path, workspace: Path) -> None:
    from tuitune.analyst.render_watch import RenderWatch
    from tuitune.analyst.survey import survey as look

    loaded = recipe(tiny_model, workspace, CHAT, {"max_length": 501})
    assert look(loaded, RenderWatch(), lambda text: None, most=5).sampled
    assert known_lengths(loaded)[0] is None
