"""Quick open: what is typed → what is offered first."""

from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import pytest

from tuitune.workbench import quick_open
from tuitune.workbench.watch import Seen
from tuitune.workbench.workspace import Workspace

ROOT = Path("/w")


def seen() -> Seen:
    run = SimpleNamespace(
        id="demo-20260101-120000", name="demo", state="running", alive=True, step=3, max_steps=9, path=ROOT / "runs/demo-1"
    )
    old = SimpleNamespace(id="old-run", name="old", state="done", alive=False, step=9, max_steps=9, path=ROOT / "runs/old")
    return Seen(
        Workspace(
            ROOT,
            recipes=(ROOT / "demo.yaml", ROOT / "recipes/qlora-sft.yaml", ROOT / "recipes/lora.yaml"),
            data=(ROOT / "data/train.jsonl", ROOT / "data/test.jsonl"),
            texts=(ROOT / "README.md",),
        ),
        runs=(run, old),
    )


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("", "demo-20260101-120000"),
        ("qlora", "qlora-sft.yaml"),
        ("recipes/lora", "lora.yaml"),
        ("rec qsf", "qlora-sft.yaml"),
        ("train", "train.jsonl"),
        ("DATA TEST", "test.jsonl"),
        ("readme", "README.md"),
        ("old", "old-run"),
    ],
)
def test_typing_finds(typed, first):
    assert quick_open.rank(quick_open.files_and_runs(seen()), typed)[0].title == first


def test_what_matches_nothing_finds_nothing():
    assert quick_open.rank(quick_open.files_and_runs(seen()), "zzz") == []


def test_recent_files_come_first():
    entries = quick_open.files_and_runs(seen())
    recent = [ROOT / "data/test.jsonl"]
    assert quick_open.rank(entries, "", recent)[0].title == "test.jsonl"
    assert quick_open.rank(entries, "jsonl", recent)[0].title == "test.jsonl"


@pytest.mark.parametrize(
    ("typed", "split"),
    [("abc", ("", "abc")), (">run", (">", "run")), ("@ lr", ("@", "lr")), (":12", (":", "12")), ("?", ("?", "")), ("", ("", ""))],
)
def test_prefixes(typed, split):
    assert quick_open.split_prefix(typed) == split


@pytest.mark.parametrize(("typed", "target"), [("12", (12, 1)), ("12:5", (12, 5)), ("", ""), ("0", ""), ("x", ""), ("3:x", (3, 1))])
def test_lines(typed, target):
    assert quick_open.line(typed)[0].target == target


def test_commands_are_those_that_hold():
    titles = {entry.title for entry in quick_open.commands("recipe")}
    assert "Run this recipe" in titles
    assert "Run this recipe" not in {entry.title for entry in quick_open.commands("data")}


def test_names_with_escapes_are_shown_not_obeyed():
    hostile = Workspace(ROOT, recipes=(ROOT / "a\x1b[31m.yaml",))
    assert quick_open.files_and_runs(Seen(hostile))[0].title == "a␛[31m.yaml"


def test_every_prefix_but_help_is_offered():
    assert [entry.target for entry in quick_open.prefixes()] == ["", ">", "@", "#", ":"]


def test_ten_thousand_files_stay_quick():
    paths = tuple(ROOT / f"d{number % 40}/recipe-{number}.yaml" for number in range(10_000))
    entries = quick_open.files_and_runs(Seen(Workspace(ROOT, recipes=paths)))
    started = perf_counter()
    assert quick_open.rank(entries, "recipe-999")[0].title == "recipe-999.yaml"
    assert perf_counter() - started < 2.0  # a generous bound against quadratic work; the figure itself is in tests/bench


def test_hash_offers_a_row_by_number_and_rows_by_text_in_a_data_file_only():
    assert [(entry.kind, entry.target) for entry in quick_open.rows("12", "data")] == [("line", (12, 1)), ("rows", "12")]
    assert [(entry.kind, entry.target) for entry in quick_open.rows("clips in", "data")] == [("rows", "clips in")]
    assert [entry.kind for entry in quick_open.rows("0", "data")] == ["rows"]
    assert [entry.kind for entry in [*quick_open.rows("", "data"), *quick_open.rows("12", "recipe")]] == ["", ""]
