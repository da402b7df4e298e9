"""One attempt of a run as its hub sees it: the trainer's process, its journal and its log, and what it has said so far."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tuitune.bus.journal import JournalTail
from tuitune.hub.faults import Fault, classify, cut
from tuitune.hub.hang import HangWatch
from tuitune.hub.log_tail import LogTail
from tuitune.hub.ranks import first_to_fail, words_of
from tuitune.hub.stacks import Stacks
from tuitune.hub.trainer_process import TrainerProcess
from tuitune.runs.directory import RunDirectory
from tuitune.runs.resume import log_of
from tuitune.secrets import Masker


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: done, stopped, suspended or failed; `fault` when it failed."""

    state: str
    why: str | None = None
    fault: Fault | None = None
    warning: str | None = None


@dataclass
class Attempt:
    """`last_words`: the trainer's `end` record. `last_reason`: the reason it gave for its last state. `began`: it trained."""

    number: int
    trainer: TrainerProcess
    events: JournalTail
    log: LogTail
    started: float = field(default_factory=time.monotonic)
    stacks: Stacks = field(init=False)
    hang: HangWatch = field(default_factory=HangWatch)
    last_words: dict[str, Any] = field(default_factory=dict)
    last_reason: str | None = None
    began: bool = False
    hung: bool = False
    killed_by: str | None = None
    told_to_end: bool = False  # by a signal, while it loaded

    def __post_init__(self) -> None:
        self.stacks = Stacks(self.log.path)

    @classmethod
    def of(cls, run: RunDirectory, number: int, trainer: TrainerProcess) -> "Attempt":
        """The attempt whose trainer is this one, its journal and log not read yet."""
        events = JournalTail(run.journal, only=f"trainer-{number}")
        return cls(number, trainer, events, LogTail(log_of(run, number), Masker()))

    def read(self, now: float) -> Iterator[dict[str, Any]]:
        """The new records of the trainer's journal. now: seconds of the monotonic clock."""
        while records := self.events.poll():
            for record in records:
                self._note(record, now)
                yield record

    def _note(self, record: dict[str, Any], now: float) -> None:
        self.hang.take(record, now)
        match record.get("ev"):
            case "end":
                self.last_words = record
            case "state":
                self.last_reason = record.get("why")
            case "metrics":
                self.began = True
            case "hb":
                self.began = self.began or record.get("phase") == "running"

    def outcome(self, oom_kills: int, evidence: Callable[[Fault], str]) -> Outcome:
        """How it ended; asked when the process is over and everything is read. oom_kills: the kernel's, while it ran. evidence: what the
        box adds to the sentence about a fault."""
        code, reason = self.trainer.returncode, self.last_words.get("reason")
        if reason in ("done", "stopped", "suspended"):
            broke = f"the trainer broke down while it left (exit status {code}); its work was done and saved before"
            well = code in (0, None, -signal.SIGTERM, -signal.SIGINT)  # torchrun ends by the signal that told it to
            return Outcome(str(reason), self.last_reason, warning=None if well else broke)
        if code == 0:
            return Outcome("done", "the trainer ended well, but its journal lacks the end: was the disk full?")
        if self.told_to_end and not self.began and code in (-15, -2, None):
            return Outcome("stopped", "stopped before it had begun to train")
        text = "\n".join(self.log.recent)
        error = self.last_words.get("error")
        told = None if error or self.killed_by else first_to_fail(self.log.path, oom_kills)
        fault = told or classify(code, text, oom_kills, error=error, killed_by=self.killed_by)
        fault = replace(fault, hint=fault.hint + evidence(fault))
        return Outcome("failed", fault.hint, fault)

    def crash(self, fault: Fault, oom_kills: int) -> dict[str, Any]:
        """What the crash event says besides the step."""
        recent = self.log.recent if fault.rank is None else words_of(self.log.path, fault.rank)
        return {
            "rc": self.trainer.returncode,
            "rank": fault.rank,
            "signal": fault.signal,
            "class": fault.kind,
            "traceback": fault.traceback,
            "oom_kills": oom_kills,
            "hint": fault.hint,
            "tail": cut("\n".join(list(recent)[-30:])).splitlines(),
        }
