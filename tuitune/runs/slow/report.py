"""Why a run is slow in words, for the command line and the dashboard, and as a document for --json."""

from dataclasses import asdict
from typing import Any

from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.recipe.ledger import read_ledger
from tuitune.runs.directory import RunDirectory
from tuitune.runs.slow.findings import Finding, WhySlow, percent, why_slow
from tuitune.runs.slow.mfu import Utilisation
from tuitune.runs.slow.proposals import CHOSEN, Settings
from tuitune.runs.slow.tally import Tally

BOUND = {
    "data": "The steps wait for their data.",
    "launches": "The steps wait for kernel launches, not for the GPU.",
    "compute": "The steps are bound by the GPU's arithmetic: it lags behind the launches of its kernels.",
}
UNMEASURED = "No step is measured yet."
NOTHING = "Nothing beside the arithmetic of the steps takes 1 % of the time."
KINDS_IN_LINE = 3


def read_why_slow(run: RunDirectory) -> WhySlow:
    """From a run's journal and ledger, as far as they are written."""
    tally, tail = Tally(), JournalTail(run.journal)
    while records := tail.poll():
        for record in records:
            tally.take(record)
    return why_slow(tally, read_settings(run))


def read_settings(run: RunDirectory) -> Settings:
    """The values in force by "section.key", and which of them tuitune has chosen; empty until the trainer has written them."""
    try:
        entries = read_ledger(run.effective)
    except UserError:
        return {}
    chosen = {f"{entry.section}.{entry.key}" for entry in entries if entry.source == "adjusted"}
    return {CHOSEN: chosen, **{f"{entry.section}.{entry.key}": entry.value for entry in entries}}


def line(why: WhySlow, width: int = 200) -> str:
    """ "slow: padding 38 %, data 4 % · MFU 21 %", the dearest causes as far as `width` characters hold them; "" when there is nothing to
    say."""
    mfu = f"MFU {percent(why.utilisation.mfu)}" if isinstance(why.utilisation, Utilisation) else ""
    text = ""
    for count in range(min(KINDS_IN_LINE, len(why.findings)), -1, -1):
        words = ", ".join(finding.short for finding in why.findings[:count])
        text = " · ".join(part for part in (f"slow: {words}" if words else "", mfu) if part)
        if len(text) <= width:
            break
    return text


def sentences(why: WhySlow) -> list[str]:
    """What bounds the steps, and how far the card is used."""
    if not why.measured:
        return [UNMEASURED]
    found = [BOUND[why.bound]] if why.bound else []
    found += [] if why.findings else [NOTHING]
    used = why.utilisation
    if isinstance(used, str):
        return [*found, f"No MFU: {used}."]
    return [
        *found,
        f"MFU {percent(used.mfu)}: {used.achieved:.3g} of {used.peak:.4g} TFLOP/s (dense 16 bit, data sheet), from {used.formula}. "
        f"With padding and recomputation the GPU computes {percent(used.hfu)} (HFU).",
    ]


def advice(finding: Finding, command: str = "") -> list[str]:
    """What to do about it, in lines. `command`: what stands before a live command ("tuitune send RUN "), "" where none is taken."""
    if finding.proposal is None:
        return []
    live = f"now: {command}{finding.proposal.live}" if command and finding.proposal.live else ""
    return [f"→ {finding.proposal.text}", *([live] if live else [])]


def document(why: WhySlow) -> dict[str, Any]:
    """`why_slow` of --json; shares and costs are of the time since the training began."""
    used = why.utilisation
    return {
        "bound": why.bound,
        "shares": dict(why.shares),
        "mfu": None if isinstance(used, str) else asdict(used),
        "no_mfu": used if isinstance(used, str) else None,
        "findings": [_finding(finding) for finding in why.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    proposal = finding.proposal
    return {
        "kind": finding.kind,
        "cost": finding.cost,
        "text": finding.text,
        "proposal": proposal
        and {
            "text": proposal.words,
            "changes": [{"key": key, "old": old, "new": new} for key, old, new in proposal.changes],
            "live": proposal.live or None,
            "changes_learning": proposal.learns or None,
        },
    }
