"""Every automatic fix of data, proven by a training step: without it the run is refused or learns nothing, with it the model learns."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.support.planted import TALK, Place
from tests.support.planted_data import ASKED, Rows, of_data, pairs, plant_data, questions, talk
from tuitune.errors import UserError
from tuitune.preflight.repair import apply_fixes
from tuitune.recipe.recipe import load_recipe
from tuitune.runs.directory import RunDirectory
from tuitune.trainer.build import build

ONE_STEP = {"max_steps": 1, "per_device_train_batch_size": 4, "max_length": 128, "use_cpu": True, "logging_steps": 1, "save_strategy": "no"}
MASKED = {**ONE_STEP, "assistant_only_loss": True}
RATED = [{"prompt": row["question"], "completion": row["answer"], "good": n % 2 == 0} for n, row in enumerate(questions())]
CASES: dict[str, tuple[Rows, dict[str, str] | None, dict[str, Any]]] = {
    "DAT03": ([{**row, "answer": n % 2 == 0} for n, row in enumerate(questions())], ASKED, {"training": ONE_STEP}),
    "DAT08 by likely names": ([{"query": row["question"], "reply": row["answer"]} for row in questions()], None, {"training": ONE_STEP}),
    "DAT08 by the nearest name": (questions(), {"user": "question", "assistant": "Answer"}, {"training": ONE_STEP}),
    "DAT08 of pairs": (
        [{"query": row["prompt"], "winner": row["chosen"], "loser": row["rejected"]} for row in pairs()],
        None,
        {"task": "dpo", "training": {**ONE_STEP, "learning_rate": 1e-5}},
    ),
    "DAT10": ([talk(("User", row["question"]), ("Assistant", row["answer"])) for row in questions()], TALK, {"training": MASKED}),
}


def one_step(place: Place) -> float:
    """The loss of a training step. UserError when the run is refused."""
    run = RunDirectory(place.recipe.parent / "run")
    trainer = build(load_recipe(place.recipe), run).trainer
    trainer.train()
    return float(next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry))


def fix_all(place: Place, id: str) -> None:
    fixes = [finding.fix for finding in of_data(place) if finding.id == id and finding.fix]
    assert fixes
    assert all(fix.automatic for fix in fixes)
    apply_fixes(place.recipe, place.recipe.read_text(), fixes)


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_refused_and_learns_after_the_fix(name: str, tmp_path: Path, tiny_model: Path) -> None:
    rows, columns, sections = CASES[name]
    place = plant_data(tmp_path, tiny_model, rows, columns, **sections)
    with pytest.raises(UserError):
        one_step(place)
    fix_all(place, name.split()[0])
    assert one_step(place) > 0


def test_dates_are_refused_and_learnt_as_text(tmp_path: Path, tiny_model: Path) -> None:
    place = plant_data(tmp_path, tiny_model, b"", ASKED, "train.parquet", training=ONE_STEP)
    table = {"question": [f"when was it {n}" for n in range(12)], "answer": [date(2024, 1, n + 1) for n in range(12)]}
    pyarrow.parquet.write_table(pyarrow.table(table), place.data)
    with pytest.raises(UserError, match="where text is needed"):
        one_step(place)
    fix_all(place, "DAT04")
    assert one_step(place) > 0


def test_numbers_as_contents_fail_in_a_template_that_trims_and_are_learnt_as_text(tmp_path: Path, tiny_model: Path) -> None:
    rows = [talk(("user", row["question"]), ("assistant", n)) for n, row in enumerate(questions())]
    place = plant_data(tmp_path, tiny_model, rows, TALK, tokenizer={"chat_template": "trims.jinja"}, training=ONE_STEP)
    (tmp_path / "trims.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    )
    with pytest.raises(UserError, match="chat template fails"):
        one_step(place)
    fix_all(place, "DAT03")
    assert one_step(place) > 0


def test_a_label_is_mapped_by_its_name(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{"prompt": row["prompt"], "completion": row["completion"], "label": row["good"]} for row in RATED]
    columns = {"prompt": "prompt", "completion": "completion"}
    place = plant_data(tmp_path, tiny_model, rows, columns, task="kto", training={**ONE_STEP, "learning_rate": 1e-5})
    with pytest.raises(UserError, match="needs a `label`"):
        one_step(place)
    fix_all(place, "DAT08")
    assert one_step(place) > 0
