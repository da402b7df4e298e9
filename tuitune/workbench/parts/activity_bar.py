"""The narrow bar at the far left: one letter and sign for each part of the workbench that exists."""

from dataclasses import dataclass

from textual import events
from textual.content import Content
from textual.widget import Widget


@dataclass(frozen=True)
class Activity:
    """A part of the workbench; `command` is its id in the registry, its key is Alt+number."""

    letter: str
    sign: str
    title: str
    command: str


ACTIVITIES = (
    Activity("E", "≡", "Explorer", "view.explorer"),
    Activity("R", "▸", "Runs", "view.runs"),
    Activity("G", "▦", "GPU", "view.gpu"),
)


class ActivityBar(Widget):
    """Two lines an activity; the ones on screen carry a mark."""

    def __init__(self) -> None:
        super().__init__()
        self.on: frozenset[str] = frozenset()

    def show(self, on: frozenset[str]) -> None:
        """Mark these activities (by command id)."""
        if on != self.on:
            self.on = on
            self.refresh()

    def render(self) -> Content:
        lines = []
        for activity in ACTIVITIES:
            shown = activity.command in self.on
            lines.append(
                Content.assemble(
                    ("▎" if shown else " ", "$primary"),
                    (activity.letter, "bold $foreground" if shown else "$text-muted"),
                    (activity.sign, "$primary" if shown else "$text-disabled"),
                )
            )
            lines.append(Content(""))
        return Content("\n").join(lines)

    def on_click(self, event: events.Click) -> None:
        index, between = divmod(event.y, 2)
        if not between and index < len(ACTIVITIES):
            self.app.call_later(self.app.run_action, f"command('{ACTIVITIES[index].command}')")
