"""The lower half of the plan view: a line a slider, a line an advice, a line a card, and what is said of each. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from tuitune.memory.advice import WITHIN, Advice, fits
from tuitune.preflight.cards import GIB
from tuitune.text import printable
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.views.plan.lines import card_words, gib
from tuitune.workbench.views.plan.sliders import BY_NAME, SLIDERS, Slider
from tuitune.workbench.views.plan.state import CardPlan, Outcome, PlanState, values_of
from tuitune.workbench.views.plan.writing import as_sections, words

TRACK, NAME, VALUE = 12, 14, 21
SLIDER, ADVICE, CARD = "slider", "advice", "card"


@dataclass(frozen=True)
class Row:
    """`kind` and `key` (the slider's name, the advice's number, the card's name) say what it is; a row without a kind is passed over."""

    line: Line
    kind: str = ""
    key: str = ""
    about: str = ""


def rows(state: PlanState, out: Outcome, width: int, *, cards: bool) -> list[Row]:
    """Sliders, advice and, unless they are drawn beside, cards."""
    found = [_slider(state, out, slider, width) for slider in SLIDERS]
    found += _advice(state, out, width)
    return found + (card_rows(out) if cards else [])


def _slider(state: PlanState, out: Outcome, slider: Slider, width: int) -> Row:
    start, settings = state.basis.start, out.settings
    values = values_of(state, slider)
    moved = slider.words(start, settings) != slider.words(start, start.settings)
    at = values.index(slider.now(settings)) if values else None
    was = f"recipe: {slider.words(start, start.settings)}" if moved else ""
    pieces: list[Piece] = [
        ("● " if moved else "  ", "two"),
        (_cell(slider.name, NAME), ""),
        (_cell(slider.words(start, settings), VALUE), "title" if moved else ""),
    ]
    if not was or 2 + NAME + VALUE + TRACK + 2 + cell_len(was) <= width:
        pieces += [*_track(at, len(values)), ("  ", "")]
    pieces.append((was, "two"))
    return Row(tuple(pieces), SLIDER, slider.name, _about_slider(state, out, slider, bool(values)))


def _track(at: int | None, count: int) -> list[Piece]:
    if at is None or count < 2:
        return [("─" * TRACK, "rest")]
    place = round((TRACK - 1) * at / (count - 1))
    return [("━" * place, "one"), ("◆", "one"), ("─" * (TRACK - 1 - place), "rest")]


def _about_slider(state: PlanState, out: Outcome, slider: Slider, movable: bool) -> str:
    start = state.basis.start
    if not movable and slider.name == "LoRA rank":
        return "The adapter that training goes on with has it." if out.settings.lora else "All weights are trained: there is no adapter."
    said = {
        "length": f"Longer rows are cut. The recipe's {start.settings.length:,} tokens are from: {printable(state.basis.length_from)}.",
        "micro-batch": "Rows at once × passes = rows an update, which stay the same: accumulation makes up for it.",
        "LoRA rank": "lora_alpha stays as it is; alpha / r is what an adapter is scaled with.",
        "checkpointing": "Fewer checkpointed layers: more memory, less computed twice.",
        "weights": "In 4 bits the base model is rounded (nf4), and steps are slower.",
    }[slider.name]
    if slider.name not in state.moved:
        return said
    written = as_sections(slider.change(start, start.settings, state.moved[slider.name]).values)
    return f"w writes {written}. {said}" if written else said


def _advice(state: PlanState, out: Outcome, width: int) -> list[Row]:
    if state.room is None:
        return []
    if not out.advice:
        said = "  no change makes it fit" if not out.fits else "  nothing to advise: what would be faster needs more memory"
        return [Row(()), Row(((said, "dim"),))]
    wanted = "to make it fit" if not out.fits else "to have 5 % to spare"
    title = "  faster, and still fits:" if out.each else f"  {wanted}, each on top of those before:"
    key = "  Enter writes it"
    found = [Row(()), Row(((title, "title"), *(((key, "dim"),) if len(title + key) <= width else ())))]
    return found + [_advised(one, at, state.room, width, out.each) for at, one in enumerate(out.advice)]


def _advised(advice: Advice, at: int, room: int, width: int, each: bool) -> Row:
    needed = advice.plan.needed
    safe = fits(advice.plan, int(room * WITHIN))
    verdict, role = ("fits", "good") if safe else ("just fits", "warn") if needed <= room else ("too much", "error")
    keys = ", ".join(word.partition(".")[2] if word.count(".") else word for word in words(advice.change.values))
    line = ((f"  {needed / GIB:7.2f} GiB ", ""), (_cell(verdict, 10), role), (keys, ""))
    before = "" if each or not at else ", with those before it"
    about = f"Costs {advice.change.costs}. Enter writes {as_sections(advice.change.values)}{before}."
    return Row(_cut(line, width), ADVICE, str(at), about)


def card_rows(out: Outcome) -> list[Row]:
    """A heading and a line a card."""
    title = f"  {_cell('card', 16)} {'GiB':>6} {'needs':>7}  {'free':>17}"
    found = [Row(()), Row(((title, "dim"),))]
    return found + [_card(one) for one in out.cards]


def _card(one: CardPlan) -> Row:
    sign = ("▸ " if one.planned else "  ", "one")
    name = printable(one.card.name).removeprefix("NVIDIA ") + (" (here)" if one.own else "")
    ok, safe = one.margin >= 0, one.needed <= one.room * WITHIN
    verdict, role = ("fits", "good") if safe else ("just fits", "warn") if ok else ("too small", "error")
    line: Line = (
        sign,
        (_cell(name, 16), "title" if one.planned else ""),
        (f" {one.room / GIB:>6.1f} {one.needed / GIB:>7.2f}  ", ""),
        (f"{verdict:<9} {one.margin / GIB:+7.1f}", role),
    )
    words = card_words(one.card, one.own)
    about = f"{words}: {gib(one.margin)} free." if ok else f"{words}: {gib(-one.margin)} too little."
    return Row(line, CARD, one.card.name, about if one.planned else f"{about} Enter or g plans for it.")


def advised_values(out: Outcome, at: int) -> Mapping[str, object]:
    """What is written for an advice: the moved sliders, and the advice with those before it that it rests on."""
    taken = [out.advice[at]] if out.each else out.advice[: at + 1]
    values = dict(out.values)
    for advice in taken:
        values |= advice.change.values
    return values


def about(row: Row | None, width: int, room: int) -> list[Line]:
    """What is said of a row, in exactly `room` lines."""
    words = wrapped(row.about, width, "") if row is not None else []
    if len(words) > room:
        words = [*words[: room - 1], ((f"{words[room - 1][0][0]}…", ""),)]
    return [*words, *[()] * (room - len(words))]


def slider_of(row: Row | None) -> str | None:
    """The slider of a row, None when it is no slider's."""
    return row.key if row is not None and row.kind == SLIDER and row.key in BY_NAME else None


def _cell(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text)) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _cut(line: Line, width: int) -> Line:
    """The last piece cut where there is no room."""
    *first, (text, role) = line
    room = max(1, width - sum(cell_len(piece) for piece, _ in first))
    return (*first, (text if cell_len(text) <= room else set_cell_size(text, room - 1) + "…", role))
