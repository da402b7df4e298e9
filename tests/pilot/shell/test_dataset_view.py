"""The dataset view by keys, with the real reader: rows, the row in full, its mapping, searches, and what happens when things break."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.pilot.shell.conftest import RECIPE, Driver, workbench
from tuitune.workbench.analysis import reader_of
from tuitune.workbench.views import dataset_view
from tuitune.workbench.views.dataset.mapping_box import MappingBox
from tuitune.workbench.views.dataset_view import DatasetView


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_view, "LOOK_AT_DISK_S", 0.1)
    monkeypatch.setattr(dataset_view, "DETAIL_AFTER_S", 0.01)


def view_of(screen: Driver) -> DatasetView:
    view = screen.app.editor.active
    assert isinstance(view, DatasetView)
    return view


@asynccontextmanager
async def opened(folder: Path, name: str = "data/train.jsonl", size: tuple[int, int] = (120, 40)) -> AsyncIterator[Driver]:
    """The file is open, its first row is shown in full."""
    async with workbench(folder, size, folder / name) as screen:
        await screen.until("row 1  ")
        await screen.until(lambda: "opening" not in screen.text)
        yield screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_rows_the_row_and_what_is_made_of_it_are_shown_at_every_size(folder: Path, size: tuple[int, int]) -> None:
    async with opened(folder, size=size) as screen:
        await screen.until("300 rows")
        for words in ("jsonl", "2 columns", "row question", "0+0?", "question", "as it is trained", "user ← question", "completion"):
            assert words in screen.text
        assert "data › train.jsonl › line 1" in screen.text
        raw, made = view_of(screen)._raw.region, view_of(screen)._made.region
        assert (raw.y == made.y) == (size[0] >= 120), "side by side where there is room"
        assert made.bottom <= size[1]
        assert view_of(screen)._list.size.height >= 4


async def test_the_cursor_goes_to_the_end_and_the_row_under_it_is_shown(folder: Path) -> None:
    async with opened(folder) as screen:
        await screen.press("end")
        await screen.until("row 300  train.jsonl:300")
        await screen.until("row 300 of 300")
        assert "299+299?" in view_of(screen)._raw.text()
        assert "598" in view_of(screen)._made.text()
        await screen.press("pageup pageup home down")
        await screen.until("row 2  train.jsonl:2")


async def test_ctrl_g_and_quick_open_go_to_a_row_and_hash_finds_one(folder: Path) -> None:
    async with opened(folder) as screen:
        await screen.press("ctrl+g")
        await screen.type("123")
        await screen.press("enter")
        await screen.until("row 123  ")
        await screen.press("ctrl+p")
        await screen.type("#45+45")
        await screen.press("down up enter")
        await screen.until("row 46  ")
        await screen.press("ctrl+p")
        await screen.type("#7")
        await screen.press("enter")
        await screen.until("row 7  ")
        assert screen.focus == "data"


async def test_slash_finds_n_and_shift_n_go_on(folder: Path) -> None:
    async with opened(folder) as screen:
        await screen.press("slash")
        await screen.type("7?")
        await screen.press("enter")
        await screen.until("found in row 8;")
        await screen.press("n")
        await screen.until("found in row 18;")
        await screen.press("N N")
        await screen.until("found in row 298;")
        await screen.press("slash")
        await screen.until(lambda: isinstance(screen.app.focused, Input))
        await screen.press("alt+x")
        await screen.type("^(12|13)\\+")
        await screen.press("enter")
        await screen.until("found in row 13;")
        await screen.press("n")
        await screen.until("found in row 14;")


async def test_what_is_not_there_is_said_and_so_is_a_broken_pattern(folder: Path) -> None:
    async with opened(folder) as screen:
        await screen.press("n")
        await screen.until("nothing was searched yet")
        await screen.press("slash")
        await screen.type("no such text")
        await screen.press("enter")
        await screen.until("not found")
        await screen.press("slash alt+x")
        await screen.type("(")
        await screen.until("unterminated")
        await screen.press("enter")
        await screen.until("is no regular expression")
        await screen.press("slash escape")
        assert screen.focus == "data"


async def test_escape_ends_a_search_that_never_ends(folder: Path) -> None:
    (folder / "data/evil.jsonl").write_text(json.dumps({"text": "a" * 60 + "b"}) + "\n")
    async with opened(folder, "data/evil.jsonl") as screen:
        await screen.press("slash alt+x")
        await screen.type("(a+)+$")
        await screen.press("enter")
        await screen.until("searching …")
        await screen.press("escape")
        await screen.until("ended")
        await screen.until(lambda: not _children(reader_of(screen.app)._process.pid))  # type: ignore[union-attr]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_broken_rows_are_shown_and_b_goes_to_the_next(folder: Path) -> None:
    rows = [b'{"text": "fine"}'] * 50
    rows[20], rows[40] = b'{"text": ', b'{"text": "gr\xf6\xdfer"}'
    (folder / "data/broken.jsonl").write_bytes(b"\n".join(rows))
    async with opened(folder, "data/broken.jsonl") as screen:
        await screen.press("b")
        await screen.until("row 21  broken.jsonl:21")
        await screen.until("not JSON")
        await screen.until(lambda: "nothing is made of it" in " ".join(view_of(screen)._made.text().split()))
        await screen.press("b")
        await screen.until("row 41  ")
        assert "is not UTF-8" in " ".join(view_of(screen)._raw.text().split())
        await screen.press("n")
        await screen.until("row 21  ")


async def test_duplicates_are_counted_and_walked_through(folder: Path) -> None:
    (folder / "data/twice.jsonl").write_text("".join(json.dumps({"text": f"{row % 7}"}) + "\n" for row in range(9)))
    async with opened(folder, "data/twice.jsonl") as screen:
        await screen.press("d")
        await screen.until("2 of 9 rows repeat an earlier row")
        await screen.press("n")
        await screen.until("row 8 is the same as row 1")
        await screen.press("n")
        await screen.until("row 9 is the same as row 2")
        await screen.press("n")
        await screen.until("row 8 is the same as row 1")


async def test_overlap_asks_for_the_other_file_the_recipes_own_first(folder: Path) -> None:
    (folder / "data/eval.jsonl").write_text('{"question": "5+5?", "answer": "10"}\n{"question": "new", "answer": "1"}\n')
    (folder / "demo.yaml").write_text(RECIPE.replace("training:", "  eval:\n    - {path: data/eval.jsonl}\ntraining:"))
    (folder / "data/aaa.jsonl").write_text('{"text": "x"}\n')
    async with opened(folder) as screen:
        await screen.press("o")
        await screen.until("eval.jsonl")
        await screen.press("enter")
        await screen.until("1 of 300 rows are in eval.jsonl, too")
        await screen.press("n")
        await screen.until("row 6 is the same as row 1 of eval.jsonl")


UNKNOWN = "".join(json.dumps({"id": row, "frage": f"{row}+1?", "antwort": str(row + 1)}) + "\n" for row in range(20))


async def test_columns_are_mapped_with_a_look_at_what_comes_out_and_written_into_the_recipe(folder: Path) -> None:
    (folder / "data/train.jsonl").write_text(UNKNOWN)
    recipe = RECIPE.replace(", columns: {user: question, assistant: answer}", "").replace("peft:", "peft:  # stays")
    (folder / "demo.yaml").write_text(recipe)
    (folder / "recipes/other.yaml").unlink()
    async with opened(folder) as screen:
        await screen.until("m: say what each column is")
        await screen.until("does not know by")
        await screen.press("m")
        await screen.until("Enter writes it into demo.yaml, dataset.train[0]")
        await screen.until("choose a column for at least one target")
        await screen.press("enter")
        await screen.until("none of the rows comes out")
        await screen.press("down down right right")
        await screen.until("user       ← frage")
        await screen.until("assistant is nothing")
        await screen.press("down down left")
        await screen.until("assistant  ← antwort")
        await screen.until("0+1?")
        await screen.press("enter")
        await screen.until("written into demo.yaml")
        await screen.until("user ← frage")
        await screen.until(lambda: "0+1?" in view_of(screen)._made.text())
    assert (folder / "demo.yaml").read_text() == recipe.replace(
        "{path: data/train.jsonl}", "{path: data/train.jsonl, columns: {user: frage, assistant: antwort}}"
    )


async def test_escape_leaves_the_recipe_as_it_was(folder: Path) -> None:
    (folder / "recipes/other.yaml").unlink()
    before = (folder / "demo.yaml").read_bytes()
    async with opened(folder) as screen:
        await screen.press("m")
        await screen.until(lambda: isinstance(screen.app.screen, MappingBox))
        await screen.press("right escape")
        await screen.until(lambda: len(screen.app.screen_stack) == 1)
    assert (folder / "demo.yaml").read_bytes() == before


async def test_a_file_that_no_recipe_names_is_told_so(folder: Path) -> None:
    (folder / "data/alone.jsonl").write_text('{"q": "x", "a": "y"}\n')
    async with opened(folder, "data/alone.jsonl") as screen:
        await screen.press("m")
        await screen.until("no recipe of this folder names this file")
        await screen.press("down down down down down down down down right")
        await screen.until("text       ← q")
        await screen.until("text  1 character")
        await screen.press("enter")
        await screen.until("`path: data/alone.jsonl` into one first")
        await screen.until(lambda: "(not written anywhere)" in " ".join(view_of(screen)._made.text().split()))


async def test_a_recipe_with_unsaved_changes_is_not_written(folder: Path) -> None:
    (folder / "recipes/other.yaml").unlink()
    before = (folder / "demo.yaml").read_bytes()
    async with opened(folder) as screen:
        editor = await screen.app.open_path(folder / "demo.yaml")
        await screen.press("x")
        await screen.until(lambda: editor.dirty)  # type: ignore[union-attr]
        await screen.app.open_path(folder / "data/train.jsonl")
        await screen.press("m")
        await screen.until("0+0?")
        await screen.until(lambda: isinstance(screen.app.screen, MappingBox) and screen.app.screen.fits)
        await screen.press("enter")
        await screen.until("has changes that are not saved")
    assert (folder / "demo.yaml").read_bytes() == before


async def test_a_file_that_changes_is_read_again_and_said(folder: Path) -> None:
    async with opened(folder) as screen:
        await screen.press("end")
        await screen.until("row 300  ")
        (folder / "data/train.jsonl").write_text('{"question": "all new", "answer": "1"}\n' * 40)
        await screen.until("the file was changed on disk")
        await screen.until("40 rows")
        await screen.until("row 40  ")
        assert "all new" in screen.text
        (folder / "data/train.jsonl").unlink()
        await screen.until("is gone from the disk")


async def test_killed_in_the_middle_the_reader_comes_back_and_it_is_said(folder: Path) -> None:
    async with opened(folder) as screen:
        reader = reader_of(screen.app)
        assert reader._process is not None
        pid = reader._process.pid
        os.kill(pid, signal.SIGSTOP)
        await screen.press("end")
        await screen.until("300 …")
        os.kill(pid, signal.SIGKILL)
        await screen.until("The reader died (signal 9) and was started again")
        await screen.until("row 300  train.jsonl:300")
        assert "299+299?" in screen.text


async def test_killed_while_nothing_is_asked_it_is_said_with_the_next_rows(folder: Path) -> None:
    async with opened(folder) as screen:
        reader = reader_of(screen.app)
        assert reader._process is not None
        process = reader._process
        os.kill(process.pid, signal.SIGKILL)
        await screen.until(lambda: process.poll() is not None)
        await screen.press("end")
        await screen.until(lambda: "and was started again" in "".join(text for _, text in screen.app.panel.lines))
        await screen.until("row 300  train.jsonl:300")


async def test_a_row_of_ten_million_characters_and_control_characters_are_shown_safely(folder: Path) -> None:
    odd = "\x1b[2J\x1b]0;owned\x07\u202e\u200b עברית"
    rows = [{"text": "x" * 10_000_000}, {"text": odd}, {"text": "漢字 🦜 " * 40}]
    (folder / "data/odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    async with opened(folder, "data/odd.jsonl") as screen:
        await screen.until("3 rows")
        assert "xxxx…" in screen.text
        view = view_of(screen)
        await screen.until(lambda: "10,000,000 characters, the first 100,000 are here" in " ".join(view._raw.text()[:200].split()))
        await screen.press("down")
        await screen.until("row 2  ")
        assert "\x1b" not in screen.text
        assert "\u202e" not in screen.text
        assert "␛[2J" in view._raw.text()
        await screen.press("down")
        await screen.until("row 3  ")
        assert "漢字" in view._made.text()


async def test_many_columns_are_gone_through_with_the_arrows(folder: Path) -> None:
    row = {f"column{n:02}": f"value{n:02}" for n in range(40)}
    (folder / "data/wide.jsonl").write_text(json.dumps(row) + "\n")
    async with opened(folder, "data/wide.jsonl", (80, 24)) as screen:
        assert "column00" in screen.text
        assert "40 columns" in screen.text
        await screen.press("right right")
        await screen.until(lambda: "column02" in screen.lines[3] and "column01" not in screen.lines[3])
        await screen.press("left left left")
        await screen.until(lambda: "column00" in screen.lines[3])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("empty.jsonl", b"", "has no rows"), ("bad.parquet", b"PAR1", "no whole parquet file"), ("bad.jsonl.gz", b"x", "damaged gzip")],
)
async def test_a_file_that_cannot_be_opened_says_why(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / "data" / name).write_bytes(content)
    async with workbench(folder, open_path=folder / "data" / name) as screen:
        await screen.until(words)
        await screen.press("end m d n slash escape")
        (folder / "data" / name).unlink()
        (folder / "data" / name).with_name("other.jsonl").write_text('{"text": "x"}\n')
        await screen.press("r")
        await screen.until("does not exist")


async def test_tab_goes_through_table_row_and_mapped_row(folder: Path) -> None:
    async with opened(folder, size=(80, 24)) as screen:
        view = view_of(screen)
        for pane in (view._raw, view._made, view._list):
            await screen.press("tab")
            assert pane.has_focus
        await screen.press("enter")
        assert view._raw.has_focus


async def test_the_reader_ends_with_the_workbench(folder: Path) -> None:
    async with opened(folder) as screen:
        process = reader_of(screen.app)._process
        assert process is not None
    deadline = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_panes_that_become_wider_after_the_row_came_break_its_lines_anew(folder: Path) -> None:
    """In a narrow terminal the panes are laid out a step later than the view: on a busy box the row has come by then."""
    (folder / "data" / "long.jsonl").write_text(json.dumps({"question": "x" * 500, "answer": "2"}) + "\n")
    async with opened(folder, "data/long.jsonl") as screen:
        await screen.until(lambda: "xxx" in view_of(screen)._raw.text())
        narrow = view_of(screen)._raw.size.width
        view_of(screen).add_class("-narrow")
        await screen.until(lambda: view_of(screen)._raw.size.width > narrow)
        await screen.until(lambda: "x" * (view_of(screen)._raw.size.width - 1) in view_of(screen)._raw.text())
