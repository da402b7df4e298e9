"""What a survey says: figures over a whole training set, small enough to keep and to send. As JSON in `tuitune inspect --all --json`."""

from typing import Any

import msgspec

from tuitune.text import printable

KEPT_ROWS = 1000  # row numbers kept for each fault
BUCKETS = 40  # of a histogram, at most


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]`: rows with i * step to (i + 1) * step - 1 tokens."""

    step: int
    counts: list[int]


class Packing(msgspec.Struct, frozen=True):
    """`length`: tokens that one packed sequence has room for; `filled`: tokens in all of them; `split`: rows that are in more than one.
    `apart`: "yes", "no" or "unknown", whether a row sees only itself; `why` in one sentence."""

    strategy: str
    sequences: int
    length: int
    filled: int
    split: int
    apart: str
    why: str

    @property
    def wasted(self) -> int:
        """Tokens of room that nothing is in."""
        return self.sequences * self.length - self.filled


class Survey(msgspec.Struct, frozen=True):
    """Figures over `looked` of `total` rows (a seeded sample when fewer).

    prepared_by: "quick" (TRL's code on rows in memory, equal to its own on the sample) or "trl" (its own preparation throughout, and
    `difference` says why). Tokens: `tokens` before max_length, `lost` of them never trained on, `trained` in the loss; `by_role` before
    max_length (a token over a border counts for its last part; for preferences both sides). `histograms`: of row lengths under "all",
    and of each role's tokens in a row. `faults`: name → row numbers, the first KEPT_ROWS; `counts`: name → how many in all.
    `sha256`: what the trainer's `data` event must say, None for a sample. `seconds`: phase → seconds.
    """

    total: int
    looked: int
    prepared_by: str
    difference: str
    max_length: int | None
    tokens: int
    lost: int
    trained: int
    longest: int
    longest_row: int
    by_role: dict[str, int]
    histograms: dict[str, Histogram]
    counts: dict[str, int]
    faults: dict[str, list[int]]
    packing: Packing | None
    sha256: str | None
    seconds: dict[str, float]

    @property
    def sampled(self) -> bool:
        """Whether only some of the rows were looked at."""
        return self.looked < self.total


FAULTS = {
    "truncated": "cut at max_length",
    "dropped": "not trained on at all",
    "masked": "without anything in the loss",
    "duplicate": "the same as one before",
    "overlap": "also in dataset.eval",
}


def share(part: int, whole: int) -> str:
    """ "57 %"; nothing of nothing is 0 %."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def sentences(survey: Survey) -> list[str]:
    """The survey in words, a line each."""
    looked = f"a sample of {survey.looked:,} of {survey.total:,} rows" if survey.sampled else f"{survey.total:,} rows"
    said = [
        f"{looked}: {survey.tokens:,} tokens, {share(survey.trained, survey.tokens)} in the loss, "
        f"longest {survey.longest:,} (row {survey.longest_row})",
        "by role: " + ", ".join(f"{printable(role, limit=40)} {share(tokens, survey.tokens)}" for role, tokens in _most(survey.by_role)),
        _faults(survey),
    ]
    if survey.packing is not None:
        said += _packing(survey.packing)
    if survey.difference:
        said.append(f"{survey.difference}; so all rows were prepared by TRL itself. Please report this")
    return said


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _faults(survey: Survey) -> str:
    found = [f"{count:,} {'row is' if count == 1 else 'rows are'} {FAULTS[name]}" for name, count in survey.counts.items() if count]
    if survey.lost:
        found.append(f"{survey.lost:,} tokens are never trained on")
    return "; ".join(found) if found else "no row is cut, dropped, there twice or without anything in the loss"


def _packing(packing: Packing) -> list[str]:
    room = packing.sequences * packing.length
    split = f", {packing.split:,} rows are in more than one" if packing.split else ""
    return [
        f"packing {packing.strategy}: {packing.sequences:,} sequences of {packing.length:,}, {share(packing.filled, room)} full, "
        f"room for {packing.wasted:,} tokens unused{split}",
        f"rows kept apart: {packing.apart} ({packing.why})",
    ]


def survey_json(survey: Survey) -> dict[str, Any]:
    """The fields of Survey, `wasted` added to its packing."""
    document: dict[str, Any] = msgspec.to_builtins(survey)
    if survey.packing is not None:
        document["packing"]["wasted"] = survey.packing.wasted
    return document
