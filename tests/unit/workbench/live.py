"""A living run for tests of live tuning: 30 of 60 steps, all commands offered."""

from typing import Any

from tests.support import journals
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.run_state import RunState

NOW = journals.START + 19.5  # half a second after the boundary of step 30


def running(*later: dict[str, Any], **options: Any) -> RunState:
    """The run at step 30, and what came later."""
    records = from_files(trainer_1=journals.trainer_records(30, max_steps=60, caps=journals.LIVE_CAPS, **options))
    return state_of(*records, *({"src": "trainer-1", "t": NOW, **record} for record in later))


def in_state(name: str, **fields: Any) -> RunState:
    """The same run in another state."""
    return running({"ev": "state", "s": name, "step": 30, **fields})
