"""Runs beside each other as lines: a line for each run, and a table of the values in which they differ. Pure functions."""

from collections.abc import Sequence
from math import isfinite

from rich.cells import cell_len

from tuitune.runs.compare import ABSENT, Difference, value_text
from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.run_state import RunState
from tuitune.workbench.signs import state_sign

ROLES = ("one", "two", "three", "warn", "error", "title")
WIDEST, NARROWEST = 40, 6  # cells of a value
LEAST = 14  # cells that are kept for each run's values, whatever the names need
SAME = "The runs do not differ in recipe, effective values, data or versions."


def letter_of(index: int) -> str:
    """What a run is called in chart and table: A, B, C …"""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def role_of(index: int) -> str:
    """Its colour; the letter tells it too."""
    return ROLES[index % len(ROLES)]


def run_lines(names: Sequence[str], states: Sequence[RunState], width: int) -> list[Line]:
    """One line a run: letter and colour, name, state, step, newest loss, best evaluation, speed; what does not fit is left out."""
    room = max((cell_len(printable(name)) for name in names), default=0)
    lines: list[Line] = []
    for index, (name, state) in enumerate(zip(names, states)):
        mark, role = state_sign(state.state)
        pieces: list[Piece] = [
            (f"{letter_of(index)} ━ ", role_of(index)),
            (printable(name).ljust(room), "title"),
            (f"  {mark} {state.state:<9}", role),
        ]
        for label, value in _figures(state):
            if sum(cell_len(text) for text, _ in pieces) + len(label) + len(value) + 3 > width:
                break
            pieces += [(f"  {label} ", "dim"), (value, "")]
        lines.append(tuple(pieces))
    return lines


def _figures(state: RunState) -> list[tuple[str, str]]:
    found = []
    if state.step is not None:
        found.append(("step", f"{state.step}/{state.max_steps}" if state.max_steps else str(state.step)))
    if (loss := state.value("loss")) is not None:
        found.append(("loss", figures.number(loss)))
    evals = state.metrics.get("eval_loss")
    pairs = [(value, step) for step, value in zip(evals.xs, evals.ys) if isfinite(value)] if evals else []
    if pairs:
        best, step = min(pairs)
        found.append(("best eval", f"{figures.number(best)} at {step:.0f}"))
    if (speed := state.value("tokens_per_second")) is not None:
        found.append(("tok/s", figures.rate(speed)))
    return found


def difference_lines(differences: Sequence[Difference], notes: Sequence[str], runs: int, width: int) -> list[Line]:
    """The table: where a value is from, its name, and what each run has; what equals the first run's is dimmed."""
    tail: list[Line] = [((printable(note), "warn"),) for note in notes]
    if not differences:
        return [((SAME, "dim"),), *tail]
    rows = [[printable(value_text(value), limit=500) for value in one.values] for one in differences]
    origin = max(len(one.origin) for one in differences)
    key = min(max(cell_len(printable(one.key)) for one in differences), max(16, width - origin - 4 - runs * LEAST))
    columns = [min(WIDEST, max(1, *(cell_len(row[index]) for row in rows))) for index in range(runs)]
    room = width - origin - key - 4 - 2 * runs
    while sum(columns) > room and max(columns) > NARROWEST:  # the widest gives way first
        columns[columns.index(max(columns))] -= 1
    head: list[Piece] = [(" " * (origin + key + 4), "")]
    head += [(letter_of(index).ljust(columns[index] + 2), role_of(index)) for index in range(runs)]
    lines: list[Line] = [tuple(head)]
    for one, row in zip(differences, rows):
        pieces: list[Piece] = [(f"{one.origin:<{origin}}  ", "dim"), (_ending(printable(one.key), key) + "  ", "")]
        for index, text in enumerate(row):
            same = index > 0 and (one.values[index] is one.values[0] or one.values[index] == one.values[0])
            pieces.append((_fitted(text, columns[index]) + "  ", "dim" if same or one.values[index] is ABSENT else "title"))
        lines.append(tuple(pieces))
    return [*lines, *tail]


def _ending(text: str, width: int) -> str:
    """A name in `width` cells; its end is what tells it from others."""
    if cell_len(text) > width:
        while text and cell_len(text) > width - 1:
            text = text[1:]
        text = "…" + text
    return text + " " * (width - cell_len(text))


def _fitted(text: str, width: int) -> str:
    if cell_len(text) > width:
        while text and cell_len(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - cell_len(text))
