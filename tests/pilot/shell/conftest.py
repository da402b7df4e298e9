"""A folder to open, and a workbench on it driven by keys. Every wait is for a condition, with a deadline."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from tuitune.workbench import watch
from tuitune.workbench.app import Workbench

RECIPE = """\
name: demo
task: sft
model:
  name_or_path: HuggingFaceTB/SmolLM2-135M-Instruct
peft:
  r: 8
dataset:
  train:
    - {path: data/train.jsonl, columns: {user: question, assistant: answer}}
training:
  max_steps: 3
"""


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """Settings, cache and drafts of a test are its own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch):
    """The watching thread looks more often than for a user."""
    monkeypatch.setattr(watch, "PERIOD", 0.1)
    monkeypatch.setattr(watch, "FOLDER_PERIOD", 0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workspace: two recipes, data, a text, a model."""
    root = tmp_path / "work"
    for name, text in {
        "demo.yaml": RECIPE,
        "recipes/other.yaml": RECIPE.replace("demo", "other"),
        "data/train.jsonl": "".join(f'{{"question": "{n}+{n}?", "answer": "{2 * n}"}}\n' for n in range(300)),
        "notes.md": "# Notes\n\nThe second line is empty.\n",
        "models/tiny/config.json": '{"model_type": "llama", "hidden_size": 64}',
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


class Driver:
    """Keys in, what is on screen out."""

    def __init__(self, app: Workbench, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, keys: str) -> "Driver":
        """Keys separated by blanks."""
        await self.pilot.press(*keys.split())
        return self

    async def type(self, text: str) -> "Driver":
        """Text into what has the keyboard, all at once (a paste: a key at a time costs a test seconds)."""
        if text:
            await self.until(lambda: isinstance(self.app.focused, Input))
            self.app.post_message(events.Paste(text))
            await self.pilot.pause()
        return self

    async def until(self, what: Callable[[], object] | str, timeout_s: float = 60.0) -> "Driver":
        """Wait for a condition, or for a text on screen."""
        condition = (lambda: what in self.text) if isinstance(what, str) else what
        deadline = monotonic() + timeout_s
        while not condition():
            assert monotonic() < deadline, f"never happened: {what}\n{self.text}"
            await self.pilot.pause(0.01)  # without a delay it would wait until the process idles, live figures and all
        await self.pilot.pause(0)
        return self

    @property
    def lines(self) -> list[str]:
        """The screen, line by line."""
        return ["".join(segment.text for segment in strip).rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        """The screen as text."""
        return "\n".join(self.lines)

    @property
    def focus(self) -> str:
        """The pane that has the keyboard: "explorer", "panel", or the active view's kind."""
        inside = self.app.focused.ancestors_with_self if self.app.focused is not None else []
        for pane, name in ((self.app.explorer, "explorer"), (self.app.panel, "panel")):
            if pane in inside:
                return name
        return self.app.editor.active.kind if self.app.editor.active in inside else ""

    @property
    def tabs(self) -> str:
        """ "demo.yaml [train.jsonl] | notes.md" as in the layout."""
        panes = []
        for pane in self.app.editor.layout_data.panes:
            names = [(key, self.app.editor.views[key].title) for key in pane.tabs]
            panes.append(" ".join(f"[{name}]" if key == pane.active else name for key, name in names))
        return " | ".join(panes)


@asynccontextmanager
async def workbench(
    folder: Path, size: tuple[int, int] = (120, 40), open_path: Path | None = None, *, slow: bool = False
) -> AsyncIterator[Driver]:
    """A workbench on a folder, ready: the folder was looked at."""
    app = Workbench(folder, open_path, slow=slow)
    async with app.run_test(size=size, notifications=True) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: app.seen is not None)
        yield driver
