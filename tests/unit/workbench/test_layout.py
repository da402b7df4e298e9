"""The tabs as data: state, what is done, state after."""

import pytest

from tuitune.workbench.layout import Layout, Pane


def layout_from(text: str) -> Layout:
    """ "a [b] c | d*" → two panes; [b] is on top, * marks the focused pane's active tab (also on top)."""
    layout = Layout(panes=[])
    for index, part in enumerate(text.split("|")):
        pane = Pane()
        for word in part.split():
            name = word.strip("[]*")
            pane.tabs.append(name)
            if word != name:
                pane.active = name
            if word.endswith("*"):
                layout.focused = index
        layout.panes.append(pane)
    layout.recent = layout.keys
    return layout


def as_text(layout: Layout) -> str:
    parts = []
    for index, pane in enumerate(layout.panes):
        mark = {pane.active: f"{pane.active}*" if index == layout.focused else f"[{pane.active}]"}
        parts.append(" ".join(mark.get(tab, tab) for tab in pane.tabs))
    return " | ".join(parts)


STEPS = [
    ("a*", lambda layout: layout.open("b"), "a b*"),
    ("a* c", lambda layout: layout.open("b"), "a b* c"),
    ("a b*", lambda layout: layout.open("a"), "a* b"),
    ("[a] | b*", lambda layout: layout.open("a"), "a* | [b]"),
    ("a b* c", lambda layout: layout.close("b"), "a* c"),
    ("a b* c", lambda layout: layout.close("c"), "a b*"),
    ("[a] | b*", lambda layout: layout.close("b"), "a*"),
    ("a* | [b]", lambda layout: layout.close("a"), "b*"),
    ("a*", lambda layout: layout.close("a"), ""),
    ("a b*", lambda layout: layout.step(1), "a* b"),
    ("a* | [b]", lambda layout: layout.step(-1), "[a] | b*"),
    ("a b* c", lambda layout: layout.split(), "[a] c | b*"),
    ("a*", lambda layout: layout.split(), "a*"),
    ("[a] c | b*", lambda layout: layout.split(), "a c b*"),
    ("[a] | b*", lambda layout: layout.focus_pane(0), "a* | [b]"),
]


@pytest.mark.parametrize(("before", "do", "after"), STEPS)
def test_tabs(before, do, after):
    layout = layout_from(before)
    do(layout)
    assert as_text(layout) == after


def test_closing_brings_back_the_tab_used_before():
    layout = Layout()
    for key in ("a", "b", "c", "a"):
        layout.open(key)
    layout.close("a")
    assert layout.active == "c"


def test_an_empty_layout_takes_every_step():
    layout = Layout()
    layout.close("nothing")
    assert (layout.step(1), layout.split(), layout.active) == ("", False, "")
