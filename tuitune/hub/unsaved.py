"""What was set by hand after the checkpoint that an attempt goes on from: the checkpoint does not know it, so somebody has to be told."""

from typing import Any

from tuitune.bus.journal import read_records
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable


def unsaved_settings(run: RunDirectory, attempt: int, step: int) -> list[str]:
    """The settings that `attempt` has taken and the checkpoint of `step` (0: the beginning) lacks, in a few words each.

    A checkpoint of the very step of a setting has it only when it was made for a later command of that boundary: the step's own is
    written before commands are looked at.
    """
    lost: list[str] = []
    for record in read_records(run.journal / f"trainer-{attempt}.jsonl", ("applied",)):
        when = record.get("step")
        if record.get("ok") is False or not isinstance(when, int) or when < step:
            continue
        if when == step and _saves(record):
            lost.clear()
        elif record.get("op") == "set":
            by = f" by {record['by']}" if record.get("by") else ""
            lost.append(printable(f"{record.get('key')} {record.get('old')} → {record.get('new')} (set{by} at step {when})", limit=300))
    return lost


def _saves(record: dict[str, Any]) -> bool:
    return record.get("op") in ("save", "stop", "reshape") or (record.get("op"), record.get("mode")) == ("pause", "suspend")
