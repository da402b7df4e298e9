"""The list of the plan view: a LineList whose sideways keys move sliders."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from tuitune.workbench.widgets.line_list import LineList


class PlanList(LineList, inherit_bindings=False):
    """Left, right, Home, End and Enter are the view's. A click only goes to a line: choosing one may write."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]

    def on_click(self, event: events.Click) -> None:
        event.prevent_default()
        index = self.scroll_offset.y + event.y - self.gutter.top
        if 0 <= index < len(self.lines) and index not in self._disabled:
            self._go(index)
