"""Why a run is slow: the line above its charts, and the page with every cause, its cost and what to change. Pure functions and one page."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from tuitune.runs.directory import RunDirectory
from tuitune.runs.slow import report
from tuitune.runs.slow.findings import Finding, WhySlow, percent, why_slow
from tuitune.runs.slow.proposals import Settings
from tuitune.text import printable
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.parts.role_lines import Line
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.pages import ScrollPage

COST = 6  # cells before a cause: its cost
ROOMY = 90  # cells from which the line says what its key does
DEAR, NOTABLE = 0.2, 0.05  # costs from which a cause is red, and yellow


class Reading:
    """Why a run is slow, with the values of its ledger, which is read again when it changes."""

    def __init__(self, run: Path) -> None:
        self.run = RunDirectory(run)
        self._stamp: int | None = None
        self._settings: Settings = {}

    def why(self, state: RunState) -> WhySlow:
        """By what is read so far."""
        try:
            stamp = self.run.effective.stat().st_mtime_ns
        except OSError:
            stamp = 0
        if stamp != self._stamp:
            self._stamp, self._settings = stamp, report.read_settings(self.run)
        return why_slow(state.tally, self._settings)


class SlowPage(ScrollPage):
    """Every cause with its cost and what to change."""

    def __init__(self, reading: Reading, *, id: str) -> None:
        super().__init__(follow=False, id=id)
        self.reading = reading

    def show_state(self, state: RunState) -> None:
        why = self.reading.why(state)
        note = "share of the time since the training began, dearest first" if why.findings else ""
        self.put("Why slow", note, slow_lines(why, max(20, self.size.width - 3), live=not state.over))


def brief_line(why: WhySlow, width: int) -> Line:
    """One line, () when there is nothing to say."""
    more = f"  ({key_of('run.slow')}: what to change)" if why.findings else ""
    more = more if width >= ROOMY or not more else more.partition(":")[0] + ")"
    text = report.line(why, width - len(more))
    if not text:
        return ()
    worst = max((finding.cost or 0.0 for finding in why.findings), default=0.0)
    return (text, _role(worst)), (more, "dim")


def slow_lines(why: WhySlow, width: int, *, live: bool) -> list[Line]:
    """The page for `width` cells. `live`: whether the run takes commands."""
    lines: list[Line] = []
    for finding in why.findings:
        lines += _cause(finding, width, ":" if live else "")
    lines += [()] if lines else []
    return lines + [((text, "dim"),) for sentence in report.sentences(why) for text in wrap(printable(sentence), width)]


def _cause(finding: Finding, width: int, command: str) -> Iterator[Line]:
    cost = "" if finding.cost is None else percent(finding.cost)
    for number, text in enumerate(wrap(printable(finding.text), width - COST)):
        yield (f"{cost if not number else '':>{COST - 1}} ", _role(finding.cost or 0.0)), (text, "")
    for advice in report.advice(finding, command):
        for text in wrap(printable(advice), width - COST):
            yield (" " * COST, ""), (text, "one")


def _role(cost: float) -> str:
    return "error" if cost >= DEAR else "warn" if cost >= NOTABLE else "dim"
