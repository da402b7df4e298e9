"""A small app around one view, for tests of that view alone, and what such tests share."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tuitune.workbench import theme
from tuitune.workbench.commands import registry
from tuitune.workbench.views.run_dashboard import RunDashboard
from tuitune.workbench.views.view import View


class Host(App[None]):
    """Only the view, and what it asked to have opened."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.asked: list[tuple[str, Path]] = []
        self.told: list[str] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {**super().get_theme_variable_defaults(), **theme.VARIABLE_DEFAULTS}

    def compose(self) -> ComposeResult:
        yield self.view

    def on_mount(self) -> None:
        for item in theme.THEMES:
            self.register_theme(item)
        self.theme = theme.DEFAULT
        for command in registry.all_commands():  # the workbench binds the keys that text fields do not need
            if command.when != registry.ALWAYS and command.holds(self.view.kind) and hasattr(self.view, f"action_{command.handler}"):
                for key in command.keys:
                    if not registry.is_plain(key):
                        self.bind(key, f"on_view('{command.handler}')")
        self.view.focus_content()

    async def action_on_view(self, handler: str) -> None:
        """A function key or a combination that means a command of the view."""
        await self.run_action(handler, self.view)

    def on_view_open_requested(self, event: View.OpenRequested) -> None:
        self.asked.append((event.kind, event.path))

    def notify(self, message: str, **options: object) -> None:  # type: ignore[override]
        self.told.append(message)


def screen_text(app: App[None]) -> str:
    """What is on screen, line by line."""
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


def screen_words(app: App[None]) -> str:
    """What is on screen as one line: sentences that are broken over lines read as written."""
    return " ".join(screen_text(app).replace("│", " ").split())


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str = "it", seconds: float = 60) -> None:
    """Play the app until the condition holds."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"{what} did not happen in time; on screen:\n{screen_text(pilot.app)}"
        await pilot.pause()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def dashboard(run: Path, size: tuple[int, int] = (100, 36)) -> AsyncIterator[tuple[Pilot[None], RunDashboard]]:
    """The dashboard of a run with its history read and painted."""
    view = RunDashboard(run)
    view.pace.period = 0.02
    app = Host(view)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: not view.feed.replaying and view.run_state.records and not view.feed.advance(), "reading the history")
        view._paint()
        await pilot.pause()
        yield pilot, view
