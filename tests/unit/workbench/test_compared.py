"""The lines of a comparison."""

from tests.unit.workbench.live import running
from tests.unit.workbench.test_run_events import text_of
from tuitune.runs.compare import ABSENT, Difference
from tuitune.workbench.views.run.compared import SAME, difference_lines, run_lines

FOUND = [
    Difference("recipe", "training.learning_rate", (2e-4, 1e-4, 2e-4)),
    Difference("recipe", "dataset.train", ([{"path": "data/a\x1b.jsonl"}], ABSENT, ["x" * 90])),
]


def test_every_value_has_its_column_and_what_equals_the_first_run_is_dimmed() -> None:
    lines = difference_lines(FOUND, [], 3, 120)
    head, rate, data = text_of(lines).splitlines()
    assert head.split() == ["A", "B", "C"]
    assert rate.split() == ["recipe", "training.learning_rate", "0.0002", "0.0001", "0.0002"]
    assert [role for _, role in lines[1]][2:] == ["title", "title", "dim"]
    assert "␛" not in data
    assert "\x1b" not in data
    assert "\\u001b" in data
    assert data.rstrip().endswith("…")


def test_in_a_narrow_place_values_are_cut_and_nothing_is_wider_than_the_place() -> None:
    assert all(len(line) <= 60 for line in text_of(difference_lines(FOUND, [], 3, 60)).splitlines())


def test_a_long_name_leaves_room_for_the_values_and_keeps_its_end() -> None:
    long = [Difference("recipe", "training.per_device_train_batch_size", ("first value", "second one"))]
    line = text_of(difference_lines(long, [], 2, 56)).splitlines()[1]
    assert "n_batch_size  first value  second one" in line
    assert line.split()[1].startswith("…")
    assert len(line) <= 58


def test_equal_runs_and_what_could_not_be_read_are_said() -> None:
    assert text_of(difference_lines([], ["b: no recipe"], 2, 80)).splitlines() == [SAME, "b: no recipe"]


def test_each_run_has_its_letter_and_as_many_figures_as_fit() -> None:
    wide, narrow = (text_of(run_lines(["a", "longer"], [running(), running()], width)).splitlines() for width in (120, 40))
    assert wide[0].startswith("A ━ a       ▶ running    step 30/60  loss 0.7")
    assert "best eval" in wide[1]
    assert "best eval" not in narrow[1]
