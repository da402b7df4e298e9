"""The middle of the workbench: tabs, breadcrumbs and the views, in one pane or in two side by side.

What is open where is a Layout (plain data); the widgets follow it. All views are children of one container, so that a tab moves to the
other pane without being made anew.
"""

from pathlib import Path

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message

from tuitune.text import printable
from tuitune.workbench.layout import MAX_PANES, Layout
from tuitune.workbench.parts.tabs import Breadcrumbs, Tab, TabBar
from tuitune.workbench.parts.welcome import Welcome
from tuitune.workbench.views.catalog import make_view
from tuitune.workbench.views.view import View


class EditorArea(Vertical):
    """Opens, shows and closes views; says so with ActiveChanged."""

    class ActiveChanged(Message):
        """Another view is active, or the active one's title, dirt, breadcrumb or status changed."""

    def __init__(self, root: Path) -> None:
        super().__init__(id="editor-area")
        self.root = root
        self.layout_data = Layout()
        self.views: dict[str, View] = {}
        self._bars = [TabBar() for _ in range(MAX_PANES)]
        self._crumbs = [Breadcrumbs() for _ in range(MAX_PANES)]
        self._stage = Horizontal(id="stage")

    def compose(self) -> ComposeResult:
        with Horizontal(id="tab-bars"):
            yield from self._bars
        with Horizontal(id="crumbs"):
            yield from self._crumbs
        with self._stage:
            yield Welcome()

    def on_mount(self) -> None:
        self.follow_layout()

    @property
    def active(self) -> View | None:
        """The view that commands go to."""
        return self.views.get(self.layout_data.active)

    async def open(self, kind: str, path: Path) -> View:
        """Bring the view of a file or run to the front, making it when it is not open; KeyError for an unknown kind."""
        view = self.views.get(f"{kind}:{path}")
        if view is None:
            view = make_view(kind, path)
            self.views[view.key] = view
            view.display = False
            self.layout_data.open(view.key)
            await self._stage.mount(view)
        self.layout_data.open(view.key)
        self.follow_layout()
        view.focus_content()
        return view

    async def close(self, view: View) -> None:
        """Take a view away without asking."""
        view.give_up()
        self.layout_data.close(view.key)
        self.views.pop(view.key, None)
        await view.remove()
        self.follow_layout()
        if self.active is not None:
            self.active.focus_content()

    def step(self, by: int) -> None:
        """The next or previous tab."""
        self.layout_data.step(by)
        self.follow_layout()
        if self.active is not None:
            self.active.focus_content()

    def split(self) -> bool:
        """Two panes, or one again; False when there is only one tab."""
        done = self.layout_data.split()
        self.follow_layout()
        if self.active is not None:
            self.active.focus_content()
        return done

    def focus_pane(self, index: int) -> None:
        """Give the keyboard to the view on top of a pane."""
        self.layout_data.focus_pane(index)
        self.follow_layout()
        if self.active is not None:
            self.active.focus_content()

    def follow_layout(self) -> None:
        """Make the widgets show what the layout says."""
        panes = self.layout_data.panes
        tops = [pane.active for pane in panes]
        for key, view in self.views.items():
            view.display = key in tops
            view.set_class(len(tops) > 1 and key == tops[1], "-second-pane")
        if len(tops) > 1 and all(tops):
            self._stage.move_child(self.views[tops[0]], before=self.views[tops[1]])
        self._stage.query_one(Welcome).display = not any(tops)
        for index, (bar, crumbs) in enumerate(zip(self._bars, self._crumbs)):
            bar.display = crumbs.display = index < len(panes)
        self.show_titles()
        self.post_message(self.ActiveChanged())

    def show_titles(self) -> None:
        """Draw tabs and breadcrumbs again."""
        for index, pane in enumerate(self.layout_data.panes):
            tabs = tuple(Tab(key, view.title, view.dirty) for key in pane.tabs if (view := self.views.get(key)))
            self._bars[index].show(tabs, pane.active, index == self.layout_data.focused)
            top = self.views.get(pane.active)
            self._crumbs[index].show(self._breadcrumb(top) if top else ())

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if event.widget is not self.app.focused:
            return  # late news: the keyboard has moved on since
        view = next((node for node in event.widget.ancestors_with_self if isinstance(node, View)), None)
        if view is not None and view.key != self.layout_data.active and view.key in self.views:
            self.layout_data.open(view.key)
            self.show_titles()
            self.post_message(self.ActiveChanged())

    def on_view_state_changed(self, event: View.StateChanged) -> None:
        event.stop()
        self.show_titles()
        self.post_message(self.ActiveChanged())

    def on_tab_bar_activated(self, event: TabBar.Activated) -> None:
        self.layout_data.open(event.key)
        self.follow_layout()
        if self.active is not None:
            self.active.focus_content()

    def _breadcrumb(self, view: View) -> tuple[str, ...]:
        try:
            parts = view.path.relative_to(self.root).parts
        except ValueError:
            parts = (str(view.path),)
        return tuple(printable(part) for part in parts) + tuple(part for part in view.breadcrumb.split(" › ") if part)
