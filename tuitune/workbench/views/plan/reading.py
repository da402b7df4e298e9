"""Reads what the plan view starts from: the recipe, its model's shape and this box's card. Some ten milliseconds, if the
model's family has a formula or has been counted: call it in a thread."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuitune.memory.calibration import Calibration, box_of, read_calibration
from tuitune.memory.pace import Pace, key_of, read_pace
from tuitune.memory.plan import plan
from tuitune.memory.settings import device
from tuitune.memory.unknown import Count
from tuitune.planning import read_recipe
from tuitune.preflight import cards
from tuitune.preflight.cards import Card
from tuitune.recipe.document import parse, read_document
from tuitune.workbench.views.plan.sliders import Start

Stamp = tuple[int, int] | None


@dataclass(frozen=True)
class Basis:
    """A recipe as it was read. `text`: what stood in the file; `data`: the same as values; `model`: its name; `length_from`: where the
    length comes from; `start.card`: the card planned for; `box`: this box's, None without a GPU; `measured`: what runs on it have found,
    `pace`: how long steps of this very recipe took there. `mean`: tokens of a sequence of the data, `steps`: of the whole run; None when
    nobody knows."""

    text: str
    data: dict[str, Any]
    model: str
    length_from: str
    start: Start
    box: Card | None
    measured: Calibration | None = None
    pace: Pace | None = None
    mean: float | None = None
    steps: int | None = None


def read(path: Path, wanted: Card | None, count: Count | None = None) -> Basis:
    """The recipe planned for a card; None: for this box's. `count` asks the analyst about a family without formulas, which can take a
    minute. UserError when there is no plan for it, with what to do."""
    own = cards.this_box()
    box = own if own.gpu else None
    card = wanted or box
    text = read_document(path).text
    planned = read_recipe(path, card, count)
    plan(planned.shape, planned.settings, device(planned.card.capability if planned.card else None))  # refuses what it has no figures for
    measured = read_calibration(box_of(own.name, own.driver))
    data = parse(text).data
    training, model, launch = (data.get(section) or {} for section in ("training", "model", "launch"))
    start = Start(
        planned.shape,
        planned.settings,
        card,
        packing=bool(training.get("packing")),
        adapter_dtype=launch.get("adapter_dtype"),
        continued=data.get("peft") is None and bool(model.get("adapter")),
    )
    pace = read_pace(box_of(own.name, own.driver), key_of(planned.shape, planned.settings))
    name = str(model.get("name_or_path", ""))
    return Basis(text, data, name, planned.length_from, start, box, measured, pace, planned.mean, planned.steps)


def stamp(path: Path) -> Stamp:
    """What tells that a file was written: time of change in ns and size in bytes; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
