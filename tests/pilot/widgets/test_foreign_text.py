"""File names and data are foreign text: whatever they hold, the terminal is never told to do anything by them."""

from pathlib import Path

import pytest
from textual._compositor import CompositorUpdate

from tests.pilot.widgets.test_cell_diff_session import ComparedWorkbench, session

# set the title, colour, a C1 introducer, right-to-left override, bell, a line feed
EVIL = "a\x1b]0;owned\x07\x1b[41mb\x9b31m\u202ec\rd\ne"
CODES = ("\x1b]0;owned", "\x1b[41mb", "\x9b", "\u202e", "\rd")


class Recorded(ComparedWorkbench):
    """Keeps all that is written."""

    written = ""

    def _display(self, screen: object, renderable: object) -> None:
        if isinstance(renderable, CompositorUpdate):
            self.written += renderable.render_segments(self.console)
        super()._display(screen, renderable)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_names_and_rows_with_control_characters_are_shown_and_not_obeyed(tmp_path: Path, size: tuple[int, int]) -> None:
    """The explorer, a preview of the data, its tab, the picker and the output page."""
    folder = tmp_path / "work"
    folder.mkdir()
    recipe, data = folder / f"{EVIL}.yaml".replace("/", "|"), folder / f"{EVIL}.jsonl"
    recipe.write_text(f"name: x\ntask: sft # {EVIL}\n")
    data.write_text('{"question": "' + EVIL.replace("\n", "\\n") + '"}\nnot json ' + EVIL + "\n")
    app = Recorded(folder)
    async with session(app, size) as pilot:
        while app.seen is None:
            await pilot.pause(0.02)
        for path in (data, recipe):
            await app.open_path(path)
            await pilot.pause()
        app.notify(EVIL)
        await pilot.press("ctrl+t", "ctrl+p", "a")
        await pilot.pause()
        assert "␛]0;owned" in app.written, "it is shown, with a picture in place of the character"
        assert [code for code in CODES if code in app.written] == []
