"""What a run's journals say to a new hub: the commands with their answers, and how far the trainer's log has been told."""

from dataclasses import dataclass, field
from typing import Any

from tuitune.bus.journal import read_records
from tuitune.runs.directory import RunDirectory


@dataclass
class History:
    """`commands`: `command` records, then `applied` records, each in order. `log_offset`: bytes, of the last line of the present attempt's
    log that is in the journal; None when none is."""

    commands: list[dict[str, Any]] = field(default_factory=list)
    log_offset: int | None = None


def read_history(run: RunDirectory) -> History:
    """Read the hub's journal and what every attempt's trainer has answered."""
    history, answers = History(), []
    for record in read_records(run.journal / "hub.jsonl", ("command", "applied", "log", "state")):
        match record["ev"]:
            case "command":
                history.commands.append(record)
            case "applied":
                answers.append(record)
            case "log" if isinstance(record.get("offset"), int):
                history.log_offset = record["offset"]
            case "state" if "attempt" in record:  # a new attempt has a new log
                history.log_offset = None
    for path in sorted(run.journal.glob("trainer-*.jsonl")):
        answers += read_records(path, ("applied",))
    history.commands += answers
    return history
