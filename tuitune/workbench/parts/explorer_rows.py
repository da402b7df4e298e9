"""The lines of the explorer as plain data: sections with what they hold, folded or not. Imports nothing of Textual."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tuitune.text import printable
from tuitune.workbench.signs import state_sign
from tuitune.workbench.watch import Seen

SECTIONS = ("recipes", "data", "models", "runs")
EMPTY = {"recipes": "none yet", "data": "no jsonl, csv, parquet", "models": "none in this folder", "runs": "none yet"}


@dataclass(frozen=True)
class Row:
    """One line. kind: "section", "empty", or the kind of view that Enter opens. sign and detail are short; everything is printable."""

    kind: str
    label: str
    path: Path | None = None
    sign: str = " "
    detail: str = ""
    section: str = ""
    count: int = 0


def explorer_rows(seen: Seen, folded: Collection[str] = (), dirty: Collection[Path] = ()) -> list[Row]:
    """All lines in order; `folded` names sections shut, `dirty` files with unsaved changes."""
    rows: list[Row] = []
    for section in SECTIONS:
        inside = _runs(seen) if section == "runs" else _files(seen, section, dirty)
        shut = section in folded
        rows.append(Row("section", section.upper(), sign="▸" if shut else "▾", section=section, count=len(inside)))
        if not shut:
            rows += inside or [Row("empty", EMPTY[section], section=section)]
    return rows


def _files(seen: Seen, section: str, dirty: Collection[Path]) -> list[Row]:
    kind = {"recipes": "recipe", "data": "data", "models": "text"}[section]
    paths: tuple[Path, ...] = getattr(seen.workspace, section)
    return [_file(kind, path, seen, section, path in dirty) for path in paths]


def _file(kind: str, path: Path, seen: Seen, section: str, dirty: bool) -> Row:
    """The file's name first, its folder behind it dimmed, as in VS Code's quick open."""
    relative = Path(seen.workspace.relative(path))
    folder = str(relative.parent)
    return Row(kind, printable(relative.name), path, "●" if dirty else " ", "" if folder == "." else printable(folder), section)


def _runs(seen: Seen) -> list[Row]:
    rows = []
    for run in seen.runs:
        detail = f"{run.step or 0}/{run.max_steps}" if run.max_steps else run.state
        rows.append(
            Row(
                "run",
                printable(run.id),
                run.path,
                state_sign(run.state)[0],
                run.state if run.state in ("lost", "failed") else detail,
                "runs",
            )
        )
    return rows
