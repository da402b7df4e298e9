"""Which tabs are open where: plain data that the editor area draws. Imports nothing of Textual.

A tab is a view's key ("recipe:/abs/path"). There are one or two panes side by side; a key is open at most once.
"""

from dataclasses import dataclass, field

MAX_PANES = 2


@dataclass
class Pane:
    """Tabs in order and the one on top ("" when there is none)."""

    tabs: list[str] = field(default_factory=list)
    active: str = ""


@dataclass
class Layout:
    """Never without a pane; `focused` is the index of the pane that new tabs go to."""

    panes: list[Pane] = field(default_factory=lambda: [Pane()])
    focused: int = 0
    recent: list[str] = field(default_factory=list)  # keys by last use, newest first

    @property
    def active(self) -> str:
        """The key of the active tab, "" when the focused pane is empty."""
        return self.panes[self.focused].active

    @property
    def keys(self) -> list[str]:
        """All open tabs, left pane first."""
        return [key for pane in self.panes for key in pane.tabs]

    def pane_of(self, key: str) -> int | None:
        """The index of the pane in which a tab is open."""
        return next((index for index, pane in enumerate(self.panes) if key in pane.tabs), None)

    def open(self, key: str) -> bool:
        """Put a tab on top, opening it beside the active one when it is new; True when it is new."""
        index = self.pane_of(key)
        if new := index is None:
            pane = self.panes[self.focused]
            pane.tabs.insert(pane.tabs.index(pane.active) + 1 if pane.active else 0, key)
        else:
            self.focused = index
        self.panes[self.focused].active = key
        self.recent = [key, *(other for other in self.recent if other != key)]
        return new

    def close(self, key: str) -> None:
        """Take a tab away; the most recently used one of its pane comes up, an empty second pane goes."""
        index = self.pane_of(key)
        if index is None:
            return
        pane = self.panes[index]
        position = pane.tabs.index(key)
        pane.tabs.remove(key)
        self.recent = [other for other in self.recent if other != key]
        if pane.active == key:
            left = [other for other in self.recent if other in pane.tabs]
            pane.active = left[0] if left else (pane.tabs[min(position, len(pane.tabs) - 1)] if pane.tabs else "")
        if not pane.tabs and len(self.panes) > 1:
            del self.panes[index]
            self.focused = 0

    def step(self, by: int) -> str:
        """The tab `by` places further, round the ends and across panes; becomes active."""
        keys = self.keys
        if not keys:
            return ""
        position = keys.index(self.active) if self.active else 0
        self.open(keys[(position + by) % len(keys)])
        return self.active

    def split(self) -> bool:
        """One pane: move the active tab into a second one. Two: join them. False when there is nothing to split."""
        if len(self.panes) > 1:
            active = self.active
            self.panes = [Pane(self.keys, active or next(iter(self.keys), ""))]
            self.focused = 0
            return True
        first = self.panes[0]
        if len(first.tabs) < 2:
            return False
        key = first.active
        position = first.tabs.index(key)
        first.tabs.remove(key)
        left = [other for other in self.recent if other in first.tabs]
        first.active = left[0] if left else first.tabs[min(position, len(first.tabs) - 1)]
        self.panes.append(Pane([key], key))
        self.focused = 1
        return True

    def focus_pane(self, index: int) -> None:
        """Make a pane the one that new tabs go to."""
        if 0 <= index < len(self.panes):
            self.focused = index
