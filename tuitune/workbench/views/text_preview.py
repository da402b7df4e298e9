"""Read-only looks at a text and at a model's folder. Everything shown is printable text, read in a thread and only up to a bound."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.views.view import View
from tuitune.workbench.widgets.line_list import LineList

VALUE = 400  # characters of one value
TEXT_BYTES, TEXT_LINES = 256 << 10, 5_000


@dataclass(frozen=True)
class Line:
    """One line of a preview: the line of the file it is (from 1, 0 = none), a name, and text."""

    number: int
    name: str
    text: str


@dataclass(frozen=True)
class Preview:
    """What a file holds, as lines; `summary` goes above them, `problem` says why there are none."""

    summary: str
    lines: tuple[Line, ...] = ()
    problem: str = ""


class PreviewView(View):
    """Calls its `read` in a thread and lists the lines; an OSError or UserError of it is shown."""

    read: Callable[[], Preview]
    DEFAULT_CSS = """
    PreviewView > #preview-summary { height: 1; padding: 0 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    PreviewView > LineList { height: 1fr; }
    """

    class Loaded(Message):
        """The thread has read the file."""

        def __init__(self, preview: Preview) -> None:
            super().__init__()
            self.preview = preview

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.preview = Preview("Reading …")
        self._sought = 0  # the line to go to when the file has been read
        self._summary = Static(Content(self.preview.summary), id="preview-summary")
        self._list = LineList()

    def compose(self) -> ComposeResult:
        yield self._summary
        yield self._list

    def on_mount(self) -> None:
        self.run_worker(self._load, thread=True, exclusive=True)

    def _load(self) -> None:
        try:
            preview = self.read()
        except (UserError, OSError) as error:
            reason = f"{error.strerror}: {self.path}" if isinstance(error, OSError) and error.strerror else str(error)
            preview = Preview("", problem=printable(reason))
        self.post_message(self.Loaded(preview))

    def focus_content(self) -> None:
        self._list.focus()

    def go_to(self, line: int, column: int = 1) -> None:
        at = [index for index, entry in enumerate(self.preview.lines) if 0 < entry.number <= line]
        if at:
            self._list.cursor = at[-1]
        self._sought = 0 if at else line

    async def on_preview_view_loaded(self, event: Loaded) -> None:
        self.show_preview(event.preview)

    def show_preview(self, preview: Preview) -> None:
        """Draw what was read."""
        self.preview = preview
        self._summary.update(Content(preview.summary) if not preview.problem else Content.styled(preview.problem, "$error"))
        names = min(max((len(line.name) for line in preview.lines), default=0), 24)
        digits = len(str(max((line.number for line in preview.lines), default=0)))
        self._list.show([draw(line, digits, names) for line in preview.lines])
        if self._sought and preview.lines:
            self.go_to(self._sought)


def draw(line: Line, digits: int, names: int) -> Content:
    """A line with its number, its name in a column, and its text."""
    number = (f" {line.number or '':>{digits}} ", "$text-disabled")
    if not names:
        return Content.assemble(number, line.text)
    name = line.name if len(line.name) <= names else line.name[: names - 1] + "…"
    return Content.assemble(number, (f"{name:<{names}}  ", "$primary"), line.text)


class TextPreview(PreviewView):
    """A text file, or the folder of a model."""

    kind = "text"

    def read(self) -> Preview:
        return model_preview(self.path) if self.path.is_dir() else text_preview(self.path)


def shown(value: Any) -> str:
    """A value in one line, printable, at most VALUE characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return printable(text, limit=VALUE)


def text_preview(path: Path) -> Preview:
    """The beginning of a text file; a file that is no text says so."""
    with path.open("rb") as file:
        data = file.read(TEXT_BYTES + 1)
    size = path.stat().st_size
    if b"\0" in data[:4096]:
        return Preview("", problem=f"{printable(path.name)} is not a text file ({figures.size(size)}).")
    texts = data[:TEXT_BYTES].decode("utf-8", "replace").splitlines()
    part = f"the first {figures.size(TEXT_BYTES)} of " if len(data) > TEXT_BYTES or len(texts) > TEXT_LINES else ""
    lines = tuple(Line(number, "", printable(text, limit=2_000)) for number, text in enumerate(texts[:TEXT_LINES], 1))
    return Preview(f"{part}{figures.size(size)} · read-only", lines)


def model_preview(path: Path) -> Preview:
    """A model's folder: what config.json says and the files with their sizes."""
    files = sorted((entry for entry in path.iterdir() if entry.is_file()), key=lambda entry: entry.name)
    lines = [Line(0, printable(entry.name), figures.size(entry.stat().st_size)) for entry in files[:500]]
    total = sum(entry.stat().st_size for entry in files)
    facts = []
    for name in ("config.json", "adapter_config.json"):
        try:
            config = json.loads((path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict):
            facts += [Line(0, printable(str(key), limit=60), shown(value)) for key, value in config.items()]
            facts.append(Line(0, "", ""))
    return Preview(f"model folder · {len(files)} files · {figures.size(total)} · read-only", tuple(facts + lines))
