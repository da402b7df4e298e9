"""LineList: keys in, cursor and painted lines out."""

from collections.abc import Sequence
from typing import overload

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Region

from tuitune.workbench.widgets.line_list import LineList


class Host(App[None]):
    """A list and what it says."""

    def __init__(self, lines: Sequence[Content], disabled: Sequence[int] = ()) -> None:
        super().__init__()
        self.given, self.off = lines, disabled
        self.said: list[tuple[str, int]] = []

    def compose(self) -> ComposeResult:
        yield LineList()

    def on_mount(self) -> None:
        self.list.show(self.given, self.off)
        self.list.focus()

    @property
    def list(self) -> LineList:
        return self.query_one(LineList)

    def on_line_list_moved(self, event: LineList.Moved) -> None:
        self.said.append(("moved", event.index))

    def on_line_list_chosen(self, event: LineList.Chosen) -> None:
        self.said.append(("chosen", event.index))


def lines(count: int) -> list[Content]:
    return [Content(f"line {number}") for number in range(count)]


@pytest.mark.parametrize(
    ("keys", "cursor"),
    [
        (["down", "down"], 2),
        (["up"], 0),
        (["end"], 99),
        (["end", "down"], 99),
        (["pagedown"], 9),
        (["pagedown", "pagedown", "pageup"], 9),
        (["end", "home"], 0),
    ],
)
async def test_keys_move_the_cursor_and_keep_it_in_sight(keys: list[str], cursor: int) -> None:
    app = Host(lines(100))
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.press(*keys)
        assert app.list.cursor == cursor
        top = app.list.scroll_offset.y
        assert top <= cursor < top + 10


async def test_enter_and_a_click_choose_and_disabled_lines_are_passed_over() -> None:
    app = Host(lines(5), disabled=[0, 2])
    async with app.run_test(size=(20, 10)) as pilot:
        assert app.list.cursor == 1
        await pilot.press("down", "enter")
        await pilot.click(LineList, offset=(3, 4))
        await pilot.click(LineList, offset=(3, 2))
        assert app.said == [("moved", 3), ("chosen", 3), ("chosen", 4)]


async def test_a_move_repaints_two_lines_and_new_content_only_what_differs() -> None:
    app = Host(lines(8))
    async with app.run_test(size=(20, 10)) as pilot:
        painted: list[Region] = []
        refresh = app.list.refresh
        app.list.refresh = lambda *regions, **options: (painted.extend(regions), refresh(*regions, **options))[1]  # type: ignore[method-assign]
        await pilot.press("down")
        assert {region.y for region in painted} == {0, 1}
        painted.clear()
        changed = lines(8)
        changed[5] = Content("something else")
        app.list.show(changed)
        assert {region.y for region in painted} == {5}


async def test_a_million_lines_are_only_looked_at_where_they_are_seen() -> None:
    class Many(Sequence[Content]):
        looked = 0

        def __len__(self) -> int:
            return 1_000_000

        @overload
        def __getitem__(self, index: int) -> Content: ...
        @overload
        def __getitem__(self, index: slice) -> Sequence[Content]: ...
        def __getitem__(self, index: int | slice) -> Content | Sequence[Content]:
            assert isinstance(index, int)
            self.looked += 1
            return Content(f"row {index}")

    many = Many()
    app = Host(many)
    async with app.run_test(size=(20, 10)) as pilot:
        await pilot.press("end")
        assert app.list.cursor == 999_999
        assert many.looked < 500
        assert "row 999999" in app.list.render_line(9).text


async def test_a_line_too_long_ends_in_an_ellipsis_and_a_wide_one_keeps_its_width() -> None:
    app = Host([Content("x" * 50), Content("漢字" * 20)])
    async with app.run_test(size=(20, 10)):
        for y in (0, 1):
            strip = app.list.render_line(y)
            assert strip.cell_length == 20
            assert strip.text.rstrip().endswith("…")
