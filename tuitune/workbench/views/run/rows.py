"""The lines of the runs table, as wide as there is room. Pure functions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import localtime, strftime

from tuitune.runs.listing import RunSummary
from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.signs import state_sign

GAP = 2


@dataclass(frozen=True)
class Column:
    """rank: the columns with the lowest go first when the place is narrow."""

    title: str
    rank: int
    right: bool = False


KIND = 2  # the column's place; it is left out while there are trainings alone
COLUMNS = (
    Column("STATE", 9),
    Column("RUN", 10),
    Column("KIND", 6),
    Column("STEP", 8, right=True),
    Column("LOSS", 7, right=True),
    Column("STARTED", 4),
    Column("DURATION", 5, right=True),
    Column("RECIPE", 3),
)


def table_lines(runs: Sequence[RunSummary], now: float, width: int, marked: Collection[str] = frozenset()) -> tuple[Line, list[Line]]:
    """(the titles, one line a run) for `width` cells; what does not fit goes by rank. `now` in unix seconds, `marked`: ids of runs."""
    if marked:
        titles, lines = table_lines(runs, now, width - 2)
        signs = [("● ", "one") if run.id in marked else ("  ", "") for run in runs]
        return (("  ", ""), *titles), [(sign, *line) for sign, line in zip(signs, lines)]
    cells = [_cells(run, now) for run in runs]
    widths = [max([len(column.title), *(len(row[index][0]) for row in cells)]) for index, column in enumerate(COLUMNS)]
    kept = sorted(range(len(COLUMNS)), key=lambda index: COLUMNS[index].rank)
    if all(run.kind == "train" for run in runs):
        kept.remove(KIND)
    while len(kept) > 2 and sum(widths[index] + GAP for index in kept) - GAP > width:
        kept.pop(0)
    kept.sort()
    titles = tuple((_padded(COLUMNS[index].title, widths[index], COLUMNS[index].right) + " " * GAP, "dim") for index in kept)
    lines = [
        tuple((_padded(row[index][0], widths[index], COLUMNS[index].right) + " " * GAP, row[index][1]) for index in kept) for row in cells
    ]
    return titles, lines


def reason(run: RunSummary) -> str:
    """What to say about a run below the table: why it failed or is lost, else its recipe."""
    if run.why:
        return printable(run.why)
    if run.alive:
        return "It trains now. Enter opens its dashboard." if run.kind == "train" else "It works now. Enter opens it."
    return f"Made from {printable(run.recipe_path)}." if run.recipe_path else ""


def _cells(run: RunSummary, now: float) -> list[Piece]:
    mark, role = state_sign(run.state)
    steps = "" if run.step is None else f"{run.step}/{run.max_steps}" if run.max_steps else str(run.step)
    started = strftime("%Y-%m-%d %H:%M", localtime(run.created)) if run.created else ""
    end = run.ended if run.ended is not None else now if run.alive else None
    taken = figures.duration(end - run.created) if end is not None and run.created else ""
    return [
        (f"{mark} {run.state}", role),
        (printable(run.id, limit=60), ""),
        (printable(run.kind, limit=12), ""),
        (steps, ""),
        ("" if run.loss is None else figures.number(run.loss), ""),
        (started, "dim"),
        (taken, ""),
        (printable(run.recipe_path.rpartition("/")[2], limit=40), "dim"),
    ]


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
