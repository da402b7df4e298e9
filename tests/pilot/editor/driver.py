"""The recipe editor in the real workbench, driven by keys: state, keys, state."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from tuitune.workbench.app import Workbench
from tuitune.workbench.views.recipe_editor import RecipeEditor

RECIPE = """\
# stays
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


def screen_of(app: App[Any]) -> str:
    """The screen as text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for a condition."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"that never came true\n{screen_of(pilot.app)}"
        await pilot.pause(0.01)


class Driver:
    """The editor of one recipe, and keys for it. `told` holds what the user was told."""

    def __init__(self, app: Workbench, pilot: Pilot[int]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def view(self) -> RecipeEditor:
        view = self.app.editor.active
        assert isinstance(view, RecipeEditor)
        return view

    @property
    def told(self) -> str:
        return "\n".join(text for _, text in self.app.panel.lines)

    @property
    def codes(self) -> list[str]:
        return [problem.code for problem in self.view.problems]

    @property
    def screen(self) -> str:
        return screen_of(self.app)

    @property
    def offered(self) -> list[str]:
        """What the completion list holds, [] when it is closed."""
        return [item.text.rstrip(": ") for item in self.view.popup.items] if self.view.popup.open else []

    async def press(self, *keys: str) -> "Driver":
        await self.pilot.press(*keys)
        return self

    async def type(self, text: str) -> "Driver":
        """Letters one after the other, as fast as they come."""
        names = {"\n": "enter"}
        return await self.press(*(names.get(letter, letter) for letter in text))

    async def at(self, line: int, column: int) -> "Driver":
        self.view.go_to(line, column)
        await self.until(lambda: self.view.place == (line, column))
        return self

    async def until(self, condition: Callable[[], object], seconds: float = 60.0) -> "Driver":
        await until(self.pilot, condition, seconds)
        return self

    async def question(self, kind: str) -> "Driver":
        """Wait until a screen of that class is open."""
        await self.until(lambda: type(self.app.screen).__name__ == kind)
        await self.pilot.pause()
        return self


@asynccontextmanager
async def editing(path: Path, text: str | bytes = RECIPE, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Driver]:
    """A workbench with the recipe open, its problems known, the keyboard in the text."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    app = Workbench(path.parent, path)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: isinstance(app.editor.active, RecipeEditor) and driver.view.schema is not None)
        driver.view.focus_content()
        driver.view.flush()
        await pilot.pause()
        yield driver
