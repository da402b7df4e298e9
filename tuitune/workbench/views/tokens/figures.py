"""The page of figures over the whole set: in words, and the histogram of row lengths. Pure functions over a Survey."""

from collections.abc import Iterator, Sequence
from itertools import count

from tuitune.analyst.survey_document import FAULTS, Histogram, Survey, sentences, share
from tuitune.text import printable
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line
from tuitune.workbench.views.tokens.flow import look_of

LABEL = 15  # cells for the lengths of a bucket
COUNT = 8  # cells for how many rows
MARK = " ◂ max_length"


def roles(survey: Survey) -> list[str]:
    """What the histogram can be of: "all", then the roles by their share."""
    return ["all", *sorted(survey.by_role, key=lambda role: -survey.by_role[role])]


def faulty(survey: Survey) -> list[str]:
    """The kinds of faults that rows of this set have."""
    return [name for name in FAULTS if survey.counts.get(name)]


def short(survey: Survey) -> Line:
    """The survey in one line."""
    rows = f"sample of {survey.looked:,} of {survey.total:,} rows" if survey.sampled else f"all {survey.total:,} rows"
    words = f"{rows} · {survey.tokens:,} tokens · {share(survey.trained, survey.tokens)} in the loss"
    wrong = " · ".join(f"{survey.counts[name]:,} {name}" for name in faulty(survey))
    return ((words, ""), (f" · {wrong}" if wrong else "", "warn"))


def page(survey: Survey, role: str, width: int, height: int) -> list[Line]:
    """The page in `height` lines of `width` cells: words first, the bars in what is left."""
    lines: list[Line] = []
    for at, sentence in enumerate(sentences(survey)):
        bad = (at == 2 and bool(faulty(survey))) or sentence == survey.difference
        lines += wrapped(printable(sentence), width, "warn" if bad else "")
    lines += [(), ((f"tokens a row: {printable(role)}", "title"), ("  h: another role", "dim"))]
    room = max(3, height - len(lines))
    return [*lines, *_bars(survey.histograms[role], survey.max_length if role == "all" else None, look_of(role), width, room)]


def _bars(histogram: Histogram, max_length: int | None, look: str, width: int, room: int) -> list[Line]:
    beyond = max_length is not None and max_length >= len(histogram.counts) * histogram.step
    first, counts, step = _merged(histogram, room - beyond)
    most = max(counts, default=0)
    space = max(1, width - LABEL - COUNT - len(MARK))
    lines: list[Line] = []
    for at, rows in enumerate(counts, first):
        start = at * step
        bar = max(1, round(space * rows / most)) if rows else 0
        marked = max_length is not None and start <= max_length < start + step
        label = f"{start:,}–{start + step - 1:,}"
        lines.append(
            (
                (f"{label:>{LABEL - 1}} ", "dim"),
                ("▇" * bar, look),
                (f" {rows:,}", "" if rows else "dim"),
                (MARK if marked else "", "warn"),
            )
        )
    return [*lines, ((f"no row comes near max_length {max_length:,}", "good"),)] if beyond else lines


def _merged(histogram: Histogram, room: int) -> tuple[int, Sequence[int], int]:
    """(number of the first bucket, counts, step) with buckets put together until they fit; empty ones at the beginning are left out."""
    for factor in count(1):
        counts = [sum(part) for part in batched(histogram.counts, factor)]
        first = next((at for at, found in enumerate(counts) if found), 0)
        if len(counts) - first <= room:
            return first, counts[first:], histogram.step * factor
    raise AssertionError("one bucket fits any room")


def batched(counts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Parts of `size`, the last one shorter (itertools has it from Python 3.12 on)."""
    return (counts[at : at + size] for at in range(0, len(counts), size))
