"""The plan against what a run really takes: lines for the memory table of the dashboard. Pure functions."""

from tuitune.workbench import figures
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.proof_reading import OFF, Compared, ProofReading, difference, per_cent


def plan_lines(proof: ProofReading, peak: float | None) -> list[Line]:
    """What was planned and proven, and a sentence when it is more than 5 % off. `peak`: torch's highest figure of the training so far."""
    if proof.allocated.planned is None:
        return [(("no plan: ", "dim"), (proof.no_plan or "the run tells none", "dim"))]
    line: list[Piece] = [("plan ", "dim"), (figures.size(proof.allocated.planned), "")]
    if proof.allocated.measured is not None:
        line += [(" proof ", "dim"), *_off(proof.allocated)]
    warning = leaves_plan(proof, peak)
    return [tuple(line), *([((warning, "warn"),)] if warning else [])]


def leaves_plan(proof: ProofReading, peak: float | None) -> str:
    """A sentence when the run takes 5 % more than planned, or its proven batch 5 % less; else "".

    A peak below the plan says nothing while the longest batch may not have come; above it the higher of both counts.
    """
    planned, proven = proof.allocated.planned, proof.allocated.measured
    highest = max((value for value in (proven, peak) if value is not None), default=None)
    above, below = difference(highest, planned), difference(proven, planned)
    if above is not None and above > OFF:
        return f"! {above:.0f} % above the plan: keep {figures.size(highest)} of the card free"
    if below is not None and below < -OFF:
        return f"! the plan is {-below:.0f} % too high: a larger batch may fit"
    return ""


def peak_pieces(proof: ProofReading | None, peak: float | None) -> list[Piece]:
    """The peak's difference to the plan, behind the peak itself."""
    off = None if proof is None else difference(peak, proof.allocated.planned)
    return [] if off is None else [(f" {per_cent(off)}", _role(off))]


def proof_lines(proof: ProofReading) -> list[Line]:
    """Every phase and component that was planned or measured, where there is room for them."""
    rows = [row for row in (*proof.phases, proof.process, *proof.components) if row.planned is not None or row.measured is not None]
    if not rows:
        return []
    width = max(len(row.name) for row in rows)
    title: Line = (("proof of the longest batch", "title"), ("  planned → measured", "dim"))
    runs = "1 run" if proof.calibrated == 1 else f"{proof.calibrated} runs"
    by: list[Line] = [((f"the plan was calibrated by {runs} of this box", "dim"),)] if proof.calibrated else []
    return [title, *(_row(row, width) for row in rows), *by]


def _row(row: Compared, width: int) -> Line:
    return (
        (f"{row.name:<{width}} ", "dim"),
        (f"{figures.size(row.planned):>8} → {figures.size(row.measured):>8}", ""),
        *([(" ", ""), *_off(row)] if row.difference is not None else []),
    )


def _off(row: Compared) -> list[Piece]:
    return [(per_cent(row.difference), _role(row.difference))]


def _role(off: float | None) -> str:
    return "warn" if off is not None and off > OFF else ""
