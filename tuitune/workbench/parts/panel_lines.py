"""The lines of the panel's pages. Pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.signs import state_sign

if TYPE_CHECKING:
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.problem_list import Entry

SEVERITIES = {"error": ("✗", "$error"), "warning": ("⚠", "$warning"), "info": ("i", "$primary")}


def entry_line(entry: Entry) -> Content:
    """✗ EMB01  fix  message  model.safetensors; dimmed when the recipe has changed since. What must be read stands where it is not cut."""
    sign, style = SEVERITIES[entry.severity]
    pieces = [
        (f"  {sign} ", f"bold {style}"),
        (f"{entry.id:<6} ", "bold"),
        ("fix " if entry.fix else "    ", "$success"),
        (printable(entry.message), ""),
        (f"  {entry.place}", "$text-muted"),
        (f"  fix: {printable(entry.fix)}" if entry.fix else "", "$success"),
    ]
    if entry.stale:
        return Content.styled("".join(text for text, _ in pieces), "$text-disabled")
    return Content.assemble(*pieces)


def run_line(run: RunSummary) -> Content:
    """▶ gsm8k-…  running  412/1400  loss 0.61"""
    steps = f"{run.step or 0}/{run.max_steps}" if run.max_steps else ""
    loss = f"loss {figures.number(run.loss)}" if run.loss is not None else ""
    return Content.assemble(
        (f"  {state_sign(run.state)[0]} ", "$success"), printable(run.id), (f"  {run.state}  {steps}  {loss}", "$text-muted")
    )
