"""Everything that has gone from the screen is painted over.

Textual 8.2.8 decides what to repaint by comparing the new layout with the one before, and forgets the one before when somebody asks for a
widget's place in between (`Compositor.full_map` lays out anew after a scroll): a toast that expires in that moment stays on screen as a
ghost until something else is drawn there (tests/pilot/widgets/test_repaint.py).
"""

from textual._compositor import Compositor, CompositorMap, ReflowResult
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget


class PaintedCompositor(Compositor):
    """Textual's own, comparing with the layout that was last painted."""

    def __init__(self) -> None:
        super().__init__()
        self._painted: CompositorMap = {}

    def reflow(self, parent: Widget, size: Size) -> ReflowResult:
        result = super().reflow(parent, size)
        self._repaint_what_left(self._full_map)
        return result

    def reflow_visible(self, parent: Widget, size: Size) -> set[Widget]:
        exposed = super().reflow_visible(parent, size)
        self._repaint_what_left(self._visible_map or {})
        return exposed

    def _repaint_what_left(self, now: CompositorMap) -> None:
        left = (place for widget, place in self._painted.items() if now.get(widget) != place)
        self._dirty_regions.update(region for place in left if (region := place.clip.intersection(place.region)))
        self._painted = now


class PaintedScreen(Screen[object]):
    """The main screen. Boxes over it are closed before long, which repaints everything."""

    def __init__(self) -> None:
        super().__init__(id="_default")
        self._compositor = PaintedCompositor()
