"""Runs checks stage by stage and hands on each finding as it comes; what cannot be checked is said, never passed over."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from tuitune.errors import UserError
from tuitune.preflight.finding import Finding, Found, NotHere, Where
from tuitune.preflight.registry import Check, Stage
from tuitune.text import printable

NOWHERE = Where()
NOT_CHECKED = "PRE01"  # the id of "this could not be checked"


@dataclass
class Outcome:
    """`ran`: ids of the checks that came to an end; `skipped`: id → why it was not made."""

    findings: list[Finding] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def run_checks(
    checks: Iterable[Check],
    context: object,
    stages: Collection[Stage],
    found: Callable[[Finding], None] = lambda finding: None,
    progress: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Run those of `checks` that belong to `stages`, in their order.

    A check whose context cannot be had (UserError: no tokenizer, a row TRL refuses) is skipped, and the reason becomes one error finding
    however many checks it stops; NotHere (nothing is wrong, there is only nothing to look at) skips without a finding.
    """
    outcome = Outcome()

    def report(finding: Finding) -> None:
        outcome.findings.append(finding)
        found(finding)

    told: set[str] = set()
    for stage in sorted(stages):
        mine = [check for check in checks if stage in check.stages]
        if mine:
            progress(f"checking: {stage.name.lower()}")
        for check in mine:
            try:
                for made in check.run(context):
                    report(finding_of(check, made))
                outcome.ran.append(check.id)
            except NotHere as reason:
                outcome.skipped[check.id] = str(reason)
            except UserError as error:
                outcome.skipped[check.id] = str(error)
                if str(error) not in told:
                    told.add(str(error))
                    report(not_checked(str(error)))
    return outcome


def finding_of(check: Check, made: Found) -> Finding:
    """What a check yielded, under its name."""
    return Finding(check.id, made.severity or check.severity, check.title, made.message, made.where, made.evidence, made.fix)


def not_checked(reason: str, where: Where = NOWHERE) -> Finding:
    """The finding that something could not be looked at."""
    return Finding(NOT_CHECKED, "error", "could not be checked", printable(reason, newlines=True, limit=1000), where)
