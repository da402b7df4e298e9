"""The checkpoints that an ended run can go on from, and the box that chooses one of them: the twin of `tuitune resume RUN --from`."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import localtime, strftime

from tuitune.runs.checkpoints import MARK, checkpoints_of, is_complete, step_of
from tuitune.runs.curves import Curve, read_curves
from tuitune.runs.directory import RunDirectory
from tuitune.workbench import figures, quick_open
from tuitune.workbench.parts.picker import Box
from tuitune.workbench.quick_open import Entry


@dataclass(frozen=True)
class Kept:
    """A whole checkpoint: its folder's name, its step, when it was written (unix time; None when unknown) and how good it was, in words."""

    name: str
    step: int
    written: float | None
    worth: str


def kept_checkpoints(run: RunDirectory) -> list[Kept]:
    """The whole ones, by the sizes of their files, the latest step first; none when the folder cannot be read. For a thread."""
    try:
        whole = [(folder, step) for folder in checkpoints_of(run) if (step := step_of(folder)) is not None and is_complete(folder)]
    except OSError:
        return []
    curves = read_curves(run.journal) if len(whole) > 1 else {}
    return [Kept(folder.name, step, _written(folder), _worth(curves, step)) for folder, step in whole]


def _written(folder: Path) -> float | None:
    try:
        return (folder / MARK).stat().st_mtime
    except OSError:
        return None


def _worth(curves: dict[str, Curve], step: int) -> str:
    """The newest evaluation at that step or before it, else the training loss: what people choose a checkpoint by."""
    for name, title in (("eval_loss", "eval loss"), ("loss", "loss")):
        curve = curves.get(name)
        at = bisect_right(curve.steps, step) if curve is not None else 0
        if curve is not None and at:
            where = "" if curve.steps[at - 1] == step else f" at step {curve.steps[at - 1]:.0f}"
            return f"{title} {figures.number(curve.values[at - 1])}{where}"
    return ""


class CheckpointPicker(Box):
    """One of the checkpoints; returns its name, None when left with Escape."""

    DEFAULT_CSS = "CheckpointPicker { align: center top; }"
    placeholder = "A checkpoint by its step: what comes after it is trained again"

    def __init__(self, kept: Sequence[Kept]) -> None:
        super().__init__()
        self._kept = [Entry("checkpoint", f"step {one.step}", one.worth, _when(one.written), one.name) for one in kept]

    def found(self, text: str) -> list[Entry]:
        return quick_open.rank(self._kept, text.strip())

    def choose(self, entry: Entry) -> None:
        self.dismiss(str(entry.target))


def _when(written: float | None) -> str:
    return "" if written is None else strftime("%Y-%m-%d %H:%M", localtime(written))
