"""The upper half of the plan view: whose plan it is, whether it fits, the bar of the peak with its legend, the phases. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

from tuitune.memory.step_time import words
from tuitune.preflight.cards import GIB, Card
from tuitune.text import printable
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, Piece, bar
from tuitune.workbench.views.plan.state import Outcome, PlanState

# Component → glyph and role; each has a glyph of its own, so that the bar reads without colours. Drawn in this order.
LOOKS: dict[str, Piece] = {
    "weights": ("█", "one"),
    "reference": ("▛", "one"),
    "16-bit weights": ("▜", "one"),
    "adapter": ("▟", "two"),
    "gradients": ("▞", "two"),
    "optimizer states": ("▓", "two"),
    "optimizer's copies": ("▙", "two"),
    "checkpoints": ("▒", "three"),
    "activations": ("░", "three"),
    "one layer at work": ("▚", "three"),
    "mask": ("╲", "three"),
    "loss": ("╱", ""),
    "CUDA context and kernels": ("#", "dim"),
    "cuBLAS workspace": ("~", "dim"),
    "unused by the allocator": ("+", "dim"),
}
OTHER, SMALL, HELD, PAGED = ("=", "dim"), ("-", "dim"), ("╳", "warn"), ("▖", "two")
SMALLEST = 0.01  # of what is needed: smaller components are drawn as one
ORDER = list(LOOKS)
UNKNOWN = "a family tuitune has no formula for: measured on a model without memory"
BACKWARD = "backward, "  # how the names of its phases begin


@dataclass(frozen=True)
class Part:
    """One stretch of the bar."""

    name: str
    bytes: int
    glyph: str
    role: str


def gib(size: float) -> str:
    """Bytes as GiB with two decimals: what `tuitune plan` prints."""
    return f"{size / GIB:.2f} GiB"


def card_words(card: Card, own: bool) -> str:
    """A card's name and memory, and whether it is this box's."""
    memory = f", {card.memory / GIB:.0f} GiB" if card.memory else ""
    return f"{printable(card.name).removeprefix('NVIDIA ')}{' of this box' if own else ''}{memory}"


def parts(state: PlanState, out: Outcome) -> list[Part]:
    """What is in memory at the peak, first what others hold; components that are too small to see as one."""
    made = out.plan
    components = [*made.of_phase(made.peak), *made.of_phase("process")]
    shown: list[Part] = []
    paged: list[Part] = []
    small = 0
    for component in components:
        glyph, role = LOOKS.get(component.name, OTHER)
        if component.name.startswith("paged"):
            paged.append(Part(f"{component.name}, which give way", component.bytes, *PAGED))
        elif component.bytes < SMALLEST * made.nvml:
            small += component.bytes
        else:
            shown.append(Part(component.name, component.bytes, glyph, role))
    shown.sort(key=lambda part: ORDER.index(part.name) if part.name in ORDER else len(ORDER))
    others = [Part(printable(held.name), held.bytes, *HELD) for held in state.taken]
    return [*others, *shown, *([Part("smaller parts", small, *SMALL)] if small else []), *paged]


def upper(state: PlanState, out: Outcome, width: int, *, roomy: bool, wide: bool) -> list[Line]:
    """The whole upper half. `roomy`: there are many lines; `wide`: and many columns."""
    gap: list[Line] = [()] if roomy else []
    found = [*head(state, out, width), *(planned_for(state, out, width) if roomy else []), *calibrated(state, width, whole=roomy), *gap]
    found += [*drawn_bar(state, out, width), *legend(state, out, width, columns=roomy), *gap]
    return [*found, *phases(out, width, whole=roomy and wide), ()]


def head(state: PlanState, out: Outcome, width: int) -> list[Line]:
    """Model and method; then the verdict in words."""
    shape, settings = state.basis.start.shape, out.settings
    method = f"LoRA rank {settings.rank}" if settings.lora else "full fine-tuning"
    billions = shape.parameters / 1e9
    count = f"{billions:.2f} B" if billions >= 0.1 else f"{shape.parameters / 1e6:.0f} M"
    facts = f"{shape.family}, {count} parameters, {method}, {settings.task}"
    local = state.basis.model.startswith(("/", ".", "~"))
    name = printable(state.basis.model.rpartition("/")[2] if local else state.basis.model)
    if cell_len(name) + cell_len(facts) + 3 > width:
        name = printable(state.basis.model.rpartition("/")[2])
    title: Line = ((name, "title"), (f" · {facts}", "dim"))
    unknown = wrapped(UNKNOWN, width, "warn") if shape.measured is not None else []
    took = wrapped(words(out.time), width, "dim") if out.time is not None else []
    return [title, *unknown, *verdict(state, out, width), *took]


def verdict(state: PlanState, out: Outcome, width: int) -> list[Line]:
    """Whether it fits, and by how much; what decides when nothing is known of a card."""
    needs = f"needs {gib(out.plan.needed)}"
    if state.card is None:
        return wrapped(f"{needs}; this box has no GPU: g plans for a card, or Enter on one below", width, "title")
    card = card_words(state.card, state.own_card)
    if out.fits is None or state.room is None:
        return wrapped(f"{needs}; how much memory {card} has is not known", width, "title")
    taken = sum(held.bytes for held in state.taken)
    beside = f", of which others hold {gib(taken)}" if taken else ""
    margin = state.room - out.plan.needed
    if not out.fits:
        return wrapped(f"✗ does not fit on {card}{beside}: {needs}, {-margin / GIB:.2f} too much", width, "error")
    if out.close:
        return wrapped(f"~ may just fit on {card}{beside}: {needs}; {gib(margin)} free is within the 5 % a plan is off", width, "warn")
    return wrapped(f"✓ fits on {card}{beside}: {needs}, {margin / GIB:.2f} free", width, "good")


def drawn_bar(state: PlanState, out: Outcome, width: int) -> list[Line]:
    """The bar, as long as the card is large; where more is needed, a mark shows the card's end and what goes beyond is in alarm."""
    found = parts(state, out)
    used = sum(part.bytes for part in found)
    memory = state.card.memory if state.card is not None and state.card.memory else used
    line = bar(width, [(part.bytes, part.role, part.glyph) for part in found], max(memory, used))
    if used <= memory:
        return [line]
    end = max(1, min(width - 1, round(width * memory / used)))
    longer, shorter = f"the card ends at {gib(memory)}", f"card: {memory / GIB:.0f} GiB"
    words = longer if max(end - 2, width - end - 1) >= len(longer) else shorter
    ruler = f"{'─' * (end - 1)}┘ {words}" if end + len(words) < width else f"{words} └".rjust(end) + "─" * (width - end)
    return [marked(line, end, "error" if out.fits is False else "warn"), ((ruler, "error" if out.fits is False else "dim"),)]


def marked(line: Line, end: int, role: str) -> Line:
    """A bar with a stroke in the cell before `end`; everything behind it in another role."""
    before: list[Piece] = []
    behind: list[Piece] = []
    at = 0
    for text, own in line:
        kept = text[: max(0, end - 1 - at)]
        rest = text[max(0, end - at) :] if at < end else text
        before += [(kept, own)] if kept else []
        behind += [(rest, role)] if rest else []
        at += len(text)
    return (*before, ("┃", role), *behind)


def legend(state: PlanState, out: Outcome, width: int, *, columns: bool) -> list[Line]:
    """Every part of the bar with its glyph and size: in columns, or one after the other where rows are few."""
    entries = [
        ((f"{part.glyph} ", part.role), (part.name, part.role if part.role == "warn" else ""), f"{part.bytes / GIB:.2f}")
        for part in parts(state, out)
    ]
    if state.room is not None and state.room > out.plan.nvml:
        entries.append((("· ", "rest"), ("free", ""), f"{(state.room - out.plan.nvml) / GIB:.2f}"))
    longest = max(cell_len(name) for _, (name, _), _ in entries)
    cell = longest + 12  # sign, blank, number, gap
    count = (width + 3) // cell
    if not columns or count < 2:
        return _flow([(sign, name, (f" {size}", "title")) for sign, name, size in entries], width)
    rows = -(-len(entries) // count)
    lines: list[Line] = []
    for row in range(rows):
        pieces: list[Piece] = []
        for sign, (name, role), size in entries[row::rows]:
            pieces += [sign, (name + " " * (longest - cell_len(name)), role), (f"{size:>7}   ", "title")]
        lines.append(tuple(pieces))
    return lines


def phases(out: Outcome, width: int, *, whole: bool) -> list[Line]:
    """What torch allocates in each phase, in GiB, the peak among them marked; unless `whole`, the parts of the backward pass as one."""
    made = out.plan
    sizes = dict(made.phases)
    backward = [name for name in sizes if name.startswith(BACKWARD)]
    if backward and not whole:
        largest = max(backward, key=lambda name: sizes[name])
        sizes = {name: size for name, size in sizes.items() if name not in backward or name == largest}
    entries: list[Line] = [(("phases", "dim"),)]
    for name, size in sizes.items():
        peak = name == made.peak
        entries.append(((f"{'▲ ' if peak else ''}{name} ", "title" if peak else "dim"), (f"{size / GIB:.2f}", "title" if peak else "")))
    return _flow(entries, width)


def planned_for(state: PlanState, out: Outcome, width: int) -> list[Line]:
    """How many positions the plan is for, and what torch will say."""
    settings = out.settings
    rows = settings.batch * settings.rows_each
    source = "" if settings.length != state.basis.start.settings.length else f" ({printable(state.basis.length_from)})"
    words = f"{rows} row{'s' * (rows != 1)} of {settings.length:,} tokens{source}; torch allocates {gib(out.plan.allocated)}"
    return wrapped(words, width, "dim")


def calibrated(state: PlanState, width: int, *, whole: bool) -> list[Line]:
    """Whether runs on this box have corrected the plan for its card, by which file; `whole`: and how to be rid of it."""
    measured = state.basis.measured if state.own_card else None
    if measured is None:
        return []
    runs = "1 run" if measured.runs == 1 else f"{measured.runs} runs"
    file, home = str(measured.file), str(Path.home())
    file = printable("~" + file.removeprefix(home) if file.startswith(home + "/") else file)
    if whole:
        return wrapped(f"calibrated by {runs} of this box: {file} (delete it to plan without)", width, "dim")
    text = f"calibrated by {runs} of this box: {file}"
    return [((text if cell_len(text) <= width else text.partition(":")[0], "dim"),)]


def _flow(entries: Sequence[Line], width: int) -> list[Line]:
    """Entries one after the other, over as many lines as they need."""
    lines: list[list[Piece]] = [[]]
    used = 0
    for entry in entries:
        size = sum(cell_len(text) for text, _ in entry)
        gap = "   " if used else ""
        if used and used + len(gap) + size > width:
            lines.append([])
            used, gap = 0, ""
        lines[-1] += [*([(gap, "")] if gap else []), *entry]
        used += len(gap) + size
    return [tuple(line) for line in lines if line]
