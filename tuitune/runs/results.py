"""What a run or job has left as its result, by the last words of its process."""

from typing import Any

from tuitune.bus.journal import last_records
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Manifest


def result_of(run: RunDirectory, manifest: Manifest) -> dict[str, Any] | None:
    """`result` of the present attempt's `end`; None when it has not ended or left none."""
    for record in reversed(last_records(run.journal / f"trainer-{manifest.attempt}.jsonl")[0]):
        if record.get("ev") == "end":
            found = record.get("result")
            return found if isinstance(found, dict) else None
    return None
