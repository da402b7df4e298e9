"""File names and data are foreign text: whatever they hold, the terminal is never told to do anything by them."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from textual._compositor import CompositorUpdate

from tests.pilot.editor.driver import RECIPE, screen_of, until
from tests.pilot.widgets.test_cell_diff_session import ComparedWorkbench, session
from tests.unit.test_text import ACTED_UPON
from tuitune.analyst.document import IGNORED, Inspection, Row, Tokens
from tuitune.workbench.views import token_view
from tuitune.workbench.views.token_view import TokenView

# set the title, colour, a C1 introducer, right-to-left override, bell, a line feed
EVIL = "a\x1b]0;owned\x07\x1b[41mb\x9b31m\u202ec\rd\ne"
CODES = ("\x1b]0;owned", "\x1b[41mb", "\x9b", "\u202e", "\rd")
OWN = re.compile(r"\x1b\[[0-9;]*[mHKXPC@]")  # colours, places, blanks: what the screen is painted with
ODD = {
    "wide": "漢字かな交じり文の長い行",
    "joined": "👩\u200d🚀 ⚠️ 🇩🇪",
    "marks": "Z\u0351\u036b\u0343\u036a\u0302a\u0310\u0301 \u0301 e\u0301",
    "right to left": "שלום עולם مرحبا",
}


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


def obeyed(written: str) -> set[str]:
    """Characters in what was written that a terminal acts upon, beyond the screen's own codes."""
    rest = OWN.sub("", written).replace("\n", "")
    return {f"U+{ord(char):04X}" for char in rest if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


def inspection() -> Inspection:
    """A row for every odd text, whose role and file are as odd; the texts cut into tokens of a few characters."""
    texts: dict[int, str] = {}
    rows, names = [], ["template"]
    for number, (kind, odd) in enumerate({**ACTED_UPON, **ODD}.items()):
        pieces = [odd[at : at + 3] for at in range(0, len(odd), 3)] * 5 + ["\n", odd, "word"]
        ids = [len(texts) + at for at in range(len(pieces))]
        texts |= dict(zip(ids, pieces))
        names.append(f"us{odd}er")
        labels = [id if at % 2 else IGNORED for at, id in enumerate(ids)]
        same = [len(names) - 1] * len(ids)
        tokens = Tokens("input", None, ids, labels, list(range(len(ids))), [0] * len(ids), same, [0] * len(ids))
        rows.append(Row(number, f"/d/{odd}/{kind}.jsonl", number + 1, "kept", [tokens]))
    left_out = [f"{odd}: row 99 has 10,000,000 characters" for odd in ACTED_UPON.values()]
    return Inspection(len(rows), len(rows), rows, names, texts, frozenset({0, 1}), left_out)


class HostileAnalyst:
    """Answers with `inspection`."""

    def request(self, op: str, args: dict[str, Any], **more: Any) -> dict[str, Any]:
        more["progress"](EVIL)
        return msgspec.to_builtins(inspection(), str_keys=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_tokens_are_shown_in_their_cells_and_not_obeyed(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of the token view, with the cursor on its tokens, as texts and as numbers."""
    monkeypatch.setattr(token_view, "analyst_of", lambda app: HostileAnalyst())
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    app = Recorded(tmp_path)
    async with session(app, size) as pilot:
        await app.open_path(recipe)
        await pilot.press("f7")
        await until(pilot, lambda: isinstance(app.editor.active, TokenView) and app.editor.active.inspection)
        view = app.editor.active
        assert isinstance(view, TokenView)
        for _ in view.inspection.rows if view.inspection else ():
            await pilot.press("tab", "end", "tab")
            width = view._flow.scrollable_content_region.width
            assert max(sum(cell_len(text) for text, _ in line) for line in view._flow.lines) <= width
            await pilot.press("down")
        assert view._rows.cursor == len({**ACTED_UPON, **ODD}) - 1
        assert "שלום" in screen_of(app)
        assert "␛]52" in app.written
        assert obeyed(app.written) == set()


async def test_a_row_of_ten_million_characters_in_the_preview_of_a_data_file(tmp_path: Path) -> None:
    """Its beginning is shown and how much more there is; rows of every odd text beside it."""
    data = tmp_path / "rows.jsonl"
    rows = [{"question": "x" * 10_000_000, f"an{text}swer": text} for text in list(ACTED_UPON.values())[:1]]
    rows += [{"question": text, f"an{text}swer": {"deep": [text]}} for kind, text in {**ACTED_UPON, **ODD}.items() if "half" not in kind]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    app = Recorded(tmp_path)
    async with session(app, (80, 24)) as pilot:
        await app.open_path(data)
        await until(pilot, lambda: "x" * 30 in screen_of(app), 60)
        await pilot.press(*["pagedown"] * 4)
        await until(pilot, lambda: "␛]52" in screen_of(app), 60)  # what was written may be pieces of it (cell diff)
        assert len(app.written) < 1_000_000
        assert obeyed(app.written) == set()
