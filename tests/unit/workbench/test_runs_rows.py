"""The runs table, line by line."""

from pathlib import Path

from tests.support import journals
from tuitune.runs.listing import RunSummary, list_runs
from tuitune.workbench.views.run.rows import reason, table_lines


def text_of(runs: list[RunSummary], width: int = 120) -> list[str]:
    titles, lines = table_lines(runs, journals.START + 100, width)
    return ["".join(text for text, _ in line).rstrip() for line in (titles, *lines)]


def test_each_run_has_state_step_loss_start_duration_and_recipe(tmp_path: Path) -> None:
    journals.write_run(tmp_path)
    titles, line = text_of(list_runs(tmp_path))
    assert titles.split() == ["STATE", "RUN", "STEP", "LOSS", "STARTED", "DURATION", "RECIPE"]
    for piece in ("✓ done", "gsm8k-20261120-101500", "60/60", "0.61", "00:40", "gsm8k.yaml"):
        assert piece in line


def test_a_failed_and_a_lost_run_say_why(tmp_path: Path) -> None:
    journals.write_run(tmp_path, "a-20261120-101500", final="crash")
    journals.write_run(tmp_path, "b-20261120-101501", final=None)
    runs = {run.name: run for run in list_runs(tmp_path)}
    assert (runs["a"].state, runs["b"].state) == ("failed", "lost")
    assert "ran out of memory" in reason(runs["a"])
    assert "gone" in reason(runs["b"])


def test_a_living_run_goes_on_counting() -> None:
    run = RunSummary("x-1", Path("/runs/x-1"), "x", "running", step=3, max_steps=9, created=journals.START)
    assert "01:40" in text_of([run])[1]


def test_where_it_is_narrow_the_least_important_columns_go_first() -> None:
    run = RunSummary("x-20261120-101500", Path("/runs/x"), "x", "done", 3, 9, 0.5, journals.START, journals.START + 9, None, "r/x.yaml")
    assert "STARTED" not in text_of([run], 60)[0]
    assert text_of([run], 24)[0].split() == ["STATE", "RUN"]


def test_names_cannot_drive_the_terminal() -> None:
    run = RunSummary("a\x1b[2J", Path("/runs/x"), "x", "done")
    assert "\x1b" not in text_of([run])[1]
