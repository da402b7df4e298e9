"""What is on screen at which size."""

import pytest

from tuitune.workbench.parts_shown import GPU, SIDE, Wishes, parts_shown
from tuitune.workbench.settings import Settings


def shown(width: int, height: int, settings: Settings | None = None, wishes: Wishes | None = None) -> set[str]:
    parts = parts_shown(width, height, settings or Settings(), wishes or Wishes())
    return {name for name in ("activity", "side", "gpu", "panel", "hints") if getattr(parts, name)}


SIZES = [
    ((200, 50), Settings(), Wishes(), {"activity", "side", "gpu", "hints"}),
    ((120, 40), Settings(), Wishes(), {"activity", "side", "gpu", "hints"}),
    ((109, 40), Settings(), Wishes(), {"activity", "side", "hints"}),
    ((109, 40), Settings(gpu_panel=True), Wishes(), {"activity", "side", "gpu", "hints"}),
    ((120, 40), Settings(gpu_panel=False), Wishes(), {"activity", "side", "hints"}),
    ((120, 40), Settings(panel=True), Wishes(), {"activity", "side", "gpu", "panel", "hints"}),
    ((80, 24), Settings(panel=True), Wishes(), {"activity"}),
    ((80, 24), Settings(), Wishes(drawer=SIDE), {"activity", "side"}),
    ((80, 24), Settings(gpu_panel=True), Wishes(drawer=GPU), {"activity", "gpu"}),
    ((80, 24), Settings(), Wishes(short_panel=True), {"activity", "panel"}),
    ((120, 40), Settings(panel=True), Wishes(maximised=True), {"hints"}),
    ((40, 10), Settings(), Wishes(), set()),
]


@pytest.mark.parametrize(("size", "settings", "wishes", "parts"), SIZES)
def test_parts(size, settings, wishes, parts):
    assert shown(*size, settings, wishes) == parts


@pytest.mark.parametrize("width", range(60, 240, 7))
@pytest.mark.parametrize("drawer", ["", SIDE, GPU])
def test_the_editor_always_keeps_forty_columns(width, drawer):
    widest = Settings(side_bar_width=60, gpu_panel_width=60, gpu_panel=True, panel=True, panel_height=30)
    parts = parts_shown(width, 24, widest, Wishes(drawer=drawer))
    assert width - parts.side - parts.gpu - 4 * parts.activity >= 40


@pytest.mark.parametrize("height", range(10, 60))
def test_the_panel_never_takes_more_than_half(height):
    parts = parts_shown(120, height, Settings(panel=True, panel_height=30), Wishes(short_panel=True))
    assert parts.panel <= max(4, (height - 6) // 2)
