"""The answers written during training as lines: each prompt with the base model's answer beside the newest one, and the earlier ones by
step. Pure functions; prompts and answers are foreign text."""

from rich.cells import cell_len

from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.live_state import Sample
from tuitune.workbench.parts.broken_text import broken_up
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.run_state import RunState

SIDE_BY_SIDE = 64  # cells from which two answers stand beside each other
REPEATS = 0.3  # a larger share of repeated n-grams is marked
METER = 8
NONE_YET = "The model has not answered anything yet: watch.prompts in the recipe, or n on the dashboard, lets it."


def by_prompt(state: RunState) -> dict[str, list[Sample]]:
    """The samples of each prompt, oldest first."""
    found: dict[str, list[Sample]] = {}
    for sample in state.samples:
        found.setdefault(sample.prompt_id, []).append(sample)
    return {name: sorted(samples, key=lambda sample: sample.time) for name, samples in found.items()}


def sample_lines(state: RunState, width: int) -> list[Line]:
    """Everything about the samples for a page of `width` cells."""
    lines: list[Line] = []
    for name, samples in by_prompt(state).items():
        lines += [*([()] if lines else []), *_prompt(samples, state.bases.get(name), width)]
    return lines


def brief_lines(state: RunState, width: int) -> list[Line]:
    """The newest answer to each prompt in one line."""
    lines: list[Line] = []
    for samples in by_prompt(state).values():
        newest = samples[-1]
        head: list[Piece] = [(f"{_step(newest):<11}", "dim"), *_short_meters(newest), (f"  {_one_line(newest.prompt, 40)}  ", "title")]
        room = max(10, width - sum(cell_len(text) for text, _ in head))
        lines.append((*head, (_one_line(newest.text, room), "")))
    return lines


def _prompt(samples: list[Sample], base: str | None, width: int) -> list[Line]:
    newest = samples[-1]
    lines: list[Line] = [*broken_up(newest.prompt, width, "title")]
    half = (width - 3) // 2
    room = half if base is not None and width >= SIDE_BY_SIDE else width
    head: list[Piece] = [(f"{_step(newest)}  ", "one"), *_meters(newest)]
    if sum(cell_len(text) for text, _ in head) > room:
        head[1:] = _short_meters(newest)
    if newest.speed is not None and sum(cell_len(text) for text, _ in head) + 12 <= room:
        head.append((f"  {figures.rate(newest.speed)} tok/s", "dim"))
    if base is None:
        lines += [tuple(head), *broken_up(newest.text, width)]
    elif width < SIDE_BY_SIDE:
        lines += [(("base model", "two"),), *broken_up(base, width, "dim"), tuple(head), *broken_up(newest.text, width)]
    else:
        left, right = [(("base model", "two"),), *broken_up(base, half, "dim")], [tuple(head), *broken_up(newest.text, half)]
        lines += [_beside(left, right, row, half) for row in range(max(len(left), len(right)))]
    for earlier in reversed(samples[:-1]):
        start: list[Piece] = [(f"  {_step(earlier):<11}", "dim"), *_short_meters(earlier), ("  ", "")]
        room = max(10, width - sum(cell_len(text) for text, _ in start))
        lines.append((*start, (_one_line(earlier.text, room), "dim")))
    return lines


def _beside(left: list[Line], right: list[Line], row: int, width: int) -> Line:
    one, other = (lines[row] if row < len(lines) else () for lines in (left, right))
    blanks = " " * max(0, width - sum(cell_len(text) for text, _ in one))
    return (*one, (blanks, ""), (" │ ", "rest"), *other)


def _step(sample: Sample) -> str:
    return "step ?" if sample.step is None else f"step {sample.step}"


def _meters(sample: Sample) -> list[Piece]:
    """Whether it ended by itself, and how much it repeats itself."""
    length = f" after {sample.tokens} tokens" if sample.tokens is not None else ""
    pieces: list[Piece] = []
    if sample.stopped is not None:
        pieces.append((f"✓ ended{length}" if sample.stopped else f"! cut off{length}", "good" if sample.stopped else "warn"))
    if sample.repetition is not None:
        share = min(1.0, max(0.0, sample.repetition))
        full = round(METER * share)
        role = "warn" if share > REPEATS else "dim"
        pieces += [("  " if pieces else "", ""), ("█" * full + "·" * (METER - full), role), (f" repeats {share:.0%}", role)]
    return pieces


def _short_meters(sample: Sample) -> list[Piece]:
    """The same in a few cells: its sign, and the share that repeats."""
    sign: Piece = ("✓", "good") if sample.stopped else ("!", "warn") if sample.stopped is False else (" ", "")
    if sample.repetition is None:
        return [sign]
    share = min(1.0, max(0.0, sample.repetition))
    return [sign, (f" repeats {share:4.0%}", "warn" if share > REPEATS else "dim")]


def _one_line(text: str, width: int) -> str:
    shown = printable(text.replace("\n", "↵"), limit=4 * width)
    if cell_len(shown) <= width:
        return shown
    while shown and cell_len(shown) > width - 1:
        shown = shown[:-1]
    return shown + "…"
