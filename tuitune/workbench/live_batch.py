"""The batch that a run trains with: what commands made of it, else what its effective config says. Imports nothing of Textual."""

from pathlib import Path

from tuitune.errors import UserError
from tuitune.recipe.ledger import read_ledger
from tuitune.workbench.live_state import ACCUMULATION, BATCH
from tuitune.workbench.record_fields import whole
from tuitune.workbench.run_state import RunState


def batch_in_force(effective: Path, state: RunState) -> tuple[int, int] | None:
    """(rows per device, accumulation steps), None when neither the run nor its ledger tells them. Reads a file: for a thread."""
    rows, accumulation = whole(state.setting(BATCH)), whole(state.setting(ACCUMULATION))
    if rows is None or accumulation is None:
        try:
            told = {entry.key: entry.value for entry in read_ledger(effective) if entry.section == "training"}
        except UserError:
            return None
        rows = whole(told.get(BATCH)) if rows is None else rows
        accumulation = whole(told.get(ACCUMULATION)) if accumulation is None else accumulation
    return None if rows is None or accumulation is None else (rows, accumulation)
