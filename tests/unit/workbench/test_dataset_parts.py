"""The dataset view's plain parts: what the table draws and asks for, what a row looks like in full, how a mapping gets into a recipe."""

from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.bench.big_files import medians
from tuitune.errors import UserError
from tuitune.workbench.views.dataset import detail, table
from tuitune.workbench.views.dataset.hunt import Hunt, found_words
from tuitune.workbench.views.dataset.recipes import Naming, namings, with_columns

PLACE = ("dataset", "train", 0)
COLUMNS = {"user": "my q, {x}", "assistant": "a b"}


def brief(row: int, **cells: str) -> table.Brief:
    return {"row": row, "line": row + 1, "cells": [[name, text, len(text)] for name, text in cells.items()]}


def test_short_columns_get_what_they_need_and_long_ones_share_the_rest():
    rows = [brief(0, id="7", question="q" * 200, answer="a" * 200)]
    columns = table.arrange(["id", "question", "answer"], rows, 90)
    assert columns == table.Columns(("id", "question", "answer"), (8, 40, 40), 0)
    assert table.arrange([f"c{n}" for n in range(50)], [], 40, first=49).names == ("c49",)
    assert table.arrange([], [], 40) == table.Columns()


def test_a_cell_is_exactly_as_wide_as_its_column_and_says_when_it_is_cut():
    assert table.fitted("short", 5, 8) == "short   "
    assert table.fitted("too long for it", 15, 8) == "too lon…"
    assert table.fitted("cut", 4_000, 8) == "cut    …"
    for text in ("漢字漢字漢字", "\x1b[31mred", "🦜" * 9, "\u202e\u200b"):
        assert cell_len(table.fitted(text, len(text), 9)) == 9
        assert "\x1b" not in table.fitted(text, len(text), 9)


def test_rows_that_are_not_there_yet_are_dots_and_broken_ones_their_reason():
    lines = table.Lines(
        1_000_000, {1: brief(1, a="x"), 2: {"row": 2, "line": 3, "error": "a.jsonl:3: not JSON"}}, table.Columns(("a",), (9,))
    )
    assert [lines[index].plain for index in (0, 1, 2)] == ["   1 …", "   2 x        ", "   3 a.jsonl:3: not JSON"]
    assert len(lines) == 1_000_000
    with pytest.raises(IndexError):
        lines[1_000_000]


@pytest.mark.parametrize(
    ("there", "top", "asked"),
    [
        (range(0), 0, (0, 20)),
        (range(10), 0, (10, 20)),
        (range(20), 0, None),
        (range(20), 500, (500, 20)),
        (range(500, 520), 500, (480, 20)),
        (range(490, 520), 500, None),
        (range(0), 995, (995, 5)),
        ([*range(500, 504), *range(505, 520)], 500, (504, 20)),
    ],
)
def test_what_is_on_screen_is_asked_for_first_then_a_page_below_and_above(there, top, asked):
    rows = {row: brief(row) for row in there}
    assert table.missing(rows, top, 10, 1_000) == asked


def test_rows_far_from_the_screen_are_forgotten():
    rows = {row: brief(row) for row in range(table.KEPT)}
    kept = table.with_rows(rows, [brief(900_000)], 900_000)
    assert 900_000 in kept
    assert len(kept) == table.KEPT // 2
    assert min(kept) == table.KEPT // 2 + 1


def test_long_lines_break_at_blanks_or_where_they_must():
    def broken(text: str, width: int) -> list[str]:
        return ["".join(piece for piece, _ in line) for line in detail.broken_up(text, width)]

    assert broken("one two three four", 9) == ["one two ", "three ", "four"]
    assert broken("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert broken("a\n\nb\tc", 10) == ["a", "", "b    c"]
    assert all(cell_len(line) <= 9 for line in broken("漢字 🦜 " * 30, 9))
    assert "".join(broken("漢字 🦜 " * 30, 9)) == "漢字 🦜 " * 30


def test_a_hunt_goes_round():
    hunt = Hunt(pairs=((3, 0), (7, 1)))
    assert [hunt.step(row, 1) for row in (0, 3, 7)] == [(3, 0), (7, 1), (3, 0)]
    assert [hunt.step(row, -1) for row in (9, 7, 3)] == [(7, 1), (3, 0), (7, 1)]
    assert Hunt().step(0, 1) is None


def test_what_was_found_is_a_sentence():
    none = {"rows": 9, "count": 0, "pairs": []}
    assert found_words("duplicates", none) == "no row repeats another (9 rows compared)"
    some = {"rows": 9_000, "count": 3, "pairs": [[1, 0]]}
    assert found_words("overlap", some, "e.jsonl") == "3 of 9,000 rows are in e.jsonl, too, the first 1 are listed: n and N go through them"


WRITTEN = {
    "    - {path: a.jsonl}  # c\n": '    - {path: a.jsonl, columns: {user: "my q, {x}", assistant: a b}}  # c\n',
    "    - path: a.jsonl  # c\n      max_rows: 3 # d\n\n# after\n": (
        '    - path: a.jsonl  # c\n      max_rows: 3 # d\n      columns: {user: "my q, {x}", assistant: a b}\n\n# after\n'
    ),
    "    - {path: a.jsonl, columns: {text: q}, max_rows: 3}\n": (
        '    - {path: a.jsonl, columns: {user: "my q, {x}", assistant: a b}, max_rows: 3}\n'
    ),
    "    - path: a.jsonl\n      columns:\n        user: q  # kept\n        system: s\n      max_rows: 2\n": (
        '    - path: a.jsonl\n      columns:\n        user: "my q, {x}"  # kept\n        assistant: a b\n      max_rows: 2\n'
    ),
    "    - path: a.jsonl\n      columns:\n": '    - path: a.jsonl\n      columns: {user: "my q, {x}", assistant: a b}\n',
}


@pytest.mark.parametrize("source", WRITTEN)
def test_a_mapping_is_written_and_everything_else_stays(source):
    head, tail = "# mine\ndataset:\n  train:\n", "training:\n  max_steps: 3\n"
    assert with_columns(head + source + tail, PLACE, COLUMNS) == head + WRITTEN[source] + tail


@pytest.mark.parametrize(
    "text", ["dataset:\n  train:\n    - a.jsonl\n", "dataset: &a\n  train: [*a\n", "x: &s {path: a}\ndataset:\n  train:\n    - *s\n"]
)
def test_what_cannot_be_edited_is_told_with_what_to_write(text):
    with pytest.raises(UserError, match=r"write `columns: \{user: "):
        with_columns(text, PLACE, COLUMNS)


def test_recipes_that_name_a_file_are_found_however_they_write_its_path(tmp_path: Path):
    data = tmp_path / "data" / "a.jsonl"
    data.parent.mkdir()
    data.write_text("{}")
    (tmp_path / "r").mkdir()
    recipes = [tmp_path / "one.yaml", tmp_path / "r/two.yaml", tmp_path / "broken.yaml", tmp_path / "gone.yaml"]
    recipes[0].write_text("dataset:\n  train:\n    - {path: data/a.jsonl, columns: {text: q}}\n")
    recipes[1].write_text("dataset:\n  train:\n    - {path: other.jsonl}\n  eval:\n    - {path: ../data/../data/a.jsonl}\n")
    recipes[2].write_text("dataset: [\n")
    assert namings(data, recipes) == [
        Naming(recipes[0], ("dataset", "train", 0), {"text": "q"}),
        Naming(recipes[1], ("dataset", "eval", 0), None),
    ]


def test_the_bench_takes_the_median_of_each_figure():
    assert medians([{"a": 3, "b": {"c": 1}}, {"a": 1, "b": {"c": 5}}, {"a": 2, "b": {"c": 9}}]) == {"a": 2, "b": {"c": 5}}
