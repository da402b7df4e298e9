"""`launch.rows_per_update` in preflight: what no card takes, the trainer would refuse, so preflight says it."""

from pathlib import Path

from tests.support.tiny_model import make_tiny_model, write_rows
from tuitune.analyst.client import Analyst
from tuitune.preflight.cards import parse_card
from tuitune.preflight.preflight import preflight

RECIPE = """task: sft
model: {{name_or_path: {model}}}
peft: {{r: 4, target_modules: all-linear}}
dataset: {{train: [{{path: {data}, columns: {{user: question, assistant: answer}}}}]}}
launch: {{rows_per_update: 8}}
training: {{max_length: 64, max_steps: 3}}
"""


def test_a_card_that_takes_no_row_is_told_at_the_key_and_a_large_one_is_fine(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=make_tiny_model(tmp_path / "model"), data=write_rows(tmp_path / "rows.jsonl")))
    analyst = Analyst()
    try:
        told = {name: preflight(recipe, analyst, parse_card(f"{name},cc9.0")) for name in ("0.5GiB", "80GiB")}
    finally:
        analyst.close()
    (small,) = [finding for finding in told["0.5GiB"].findings if "not even one row" in finding.message]
    assert (small.severity, small.where.line) == ("error", 5)
    assert not [finding for finding in told["80GiB"].findings if finding.id == "PRE01"]
