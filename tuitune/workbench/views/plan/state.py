"""What the plan view shows, as plain data: the recipe as it was read, the sliders that were moved, who else is on the card.

Pure functions change it and work out its plan; nothing here takes longer than some milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from tuitune.memory.advice import WITHIN, Advice, Change, advise, fits, largest_length
from tuitune.memory.plan import Plan, plan
from tuitune.memory.report import COMMON
from tuitune.memory.settings import Device, Settings, device
from tuitune.memory.step_time import StepTime, step_time
from tuitune.preflight.cards import Card, parse_card
from tuitune.workbench.views.plan.held import Held
from tuitune.workbench.views.plan.reading import Basis
from tuitune.workbench.views.plan.sliders import BY_NAME, Slider, changed


@dataclass(frozen=True)
class CardPlan:
    """The plan on one card. `room`: bytes that a run may have there; `planned`: it is the card that is planned for."""

    card: Card
    room: int
    needed: int
    planned: bool
    own: bool

    @property
    def margin(self) -> int:
        """Bytes that stay free; below zero what is missing."""
        return self.room - self.needed


@dataclass(frozen=True)
class PlanState:
    """`moved`: slider's name → value, where it differs from the recipe; `held`: what others have of this box's card."""

    basis: Basis
    moved: Mapping[str, int] = field(default_factory=dict)
    held: tuple[Held, ...] = ()

    @property
    def change(self) -> Change:
        """The moved sliders: the recipe keys that would say so, and the settings they come to."""
        return changed(self.basis.start, self.moved)

    @property
    def card(self) -> Card | None:
        """The card that is planned for."""
        return self.basis.start.card

    @property
    def own_card(self) -> bool:
        """Whether that is this box's."""
        return self.card is not None and self.card == self.basis.box

    @property
    def taken(self) -> tuple[Held, ...]:
        """What others hold of the card that is planned for."""
        return self.held if self.own_card else ()

    @property
    def room(self) -> int | None:
        """Bytes of the card that a run may have; None without a card, or where its memory is unknown."""
        if self.card is None or self.card.memory is None:
            return None
        return self.card.memory - sum(held.bytes for held in self.taken)


@dataclass(frozen=True)
class Outcome:
    """What a state comes to. `fits` None: there is no card; `close`: it fits by less than a plan may be off. `each`: the advice is to be
    taken one by one (what makes it faster), not one on top of the other. `time`: how long a step takes, None where nobody knows."""

    settings: Settings
    values: dict[str, object]
    plan: Plan
    fits: bool | None
    close: bool
    advice: list[Advice]
    each: bool
    cards: list[CardPlan]
    time: StepTime | None = None


def outcome(state: PlanState) -> Outcome:
    """Plan, advice and cards of a state."""
    change, shape = state.change, state.basis.start.shape
    settings, stack, room = change.settings, _stack(state, state.card), state.room
    made = plan(shape, settings, stack)
    ok = None if room is None else fits(made, room)
    safe = room is not None and fits(made, int(room * WITHIN))
    advice = [] if room is None or room <= 0 else advise(shape, settings, stack, room)
    cards = _cards(state, settings, {stack: made.needed})
    return Outcome(settings, change.values, made, ok, bool(ok) and not safe, advice, safe, cards, _time(state, settings))


def _time(state: PlanState, settings: Settings) -> StepTime | None:
    """As runs of this very recipe took here, while no slider is moved and this box's card is planned for; else by arithmetic. Rows that
    are cut elsewhere may be packed into another number of steps."""
    basis, card = state.basis, state.card
    pace = basis.pace if state.own_card and not state.moved else None
    steps = basis.steps if settings.length == basis.start.settings.length else None
    return step_time(basis.start.shape, settings, card.name if card else None, pace, basis.mean, steps)


def _stack(state: PlanState, card: Card | None) -> Device:
    """What the software takes on a card: on this box's own as its runs have measured it."""
    measured = state.basis.measured if card is not None and card == state.basis.box else None
    return device(card.capability if card else None, measured)


def _cards(state: PlanState, settings: Settings, needed: dict[Device, int]) -> list[CardPlan]:
    """`needed`: what is known already; a card's software stack decides it."""
    found = []
    for card in choices(state.basis):
        stack = _stack(state, card)
        if stack not in needed:
            needed[stack] = plan(state.basis.start.shape, settings, stack).needed
        own = card == state.basis.box
        room = (card.memory or 0) - sum(held.bytes for held in state.held if own)
        found.append(CardPlan(card, room, needed[stack], card == state.card, own))
    return found


@cache
def _common() -> tuple[Card, ...]:
    return tuple(parse_card(name) for name in COMMON)


def choices(basis: Basis) -> list[Card]:
    """The cards side by side: this box's, the common ones, and the one that was asked for if it is neither."""
    own = [basis.box] if basis.box is not None else []
    return own + [card for card in _common() if card != basis.box]


def next_card(basis: Basis, card: Card | None, by: int = 1) -> Card:
    """The card after another one, round the end."""
    cards = choices(basis)
    if card not in cards:
        return cards[0 if by > 0 else -1]
    return cards[(cards.index(card) + by) % len(cards)]


def values_of(state: PlanState, slider: Slider) -> tuple[int, ...]:
    """The values that a slider has now; empty when it can not be moved."""
    return slider.choices(state.basis.start, state.change.settings)


def step(state: PlanState, name: str, by: int) -> PlanState:
    """A slider some values further, at most to its end."""
    slider = BY_NAME[name]
    values = values_of(state, slider)
    if not values:
        return state
    at = values.index(slider.now(state.change.settings))
    return move(state, name, values[max(0, min(at + by, len(values) - 1))])


def edge(state: PlanState, name: str, last: bool) -> PlanState:
    """A slider at its first or last value."""
    values = values_of(state, BY_NAME[name])
    return move(state, name, values[-1 if last else 0]) if values else state


def most(state: PlanState, name: str) -> PlanState | None:
    """A slider at the most that fits with 5 % to spare; None when nothing does. Needs a card. Some ten milliseconds."""
    slider, room = BY_NAME[name], int((state.room or 0) * WITHIN)
    start, stack = state.basis.start, _stack(state, state.card)
    if name == "length":
        length = largest_length(start.shape, state.change.settings, stack, room)
        return move(state, name, length) if length else None
    tried = (move(state, name, value) for value in reversed(values_of(state, slider)))
    return next((one for one in tried if plan(start.shape, one.change.settings, stack).needed <= room), None)


def move(state: PlanState, name: str, value: int) -> PlanState:
    """A slider at a value; one that says what the recipe says counts as not moved."""
    moved = {**state.moved, name: value}
    return replace(state, moved=_different(state.basis, moved))


def back(state: PlanState) -> PlanState:
    """All sliders where the recipe has them."""
    return replace(state, moved={})


def rebased(state: PlanState, basis: Basis) -> PlanState:
    """The recipe was read anew: sliders stay where they were moved to, as far as that still differs and is possible."""
    return replace(state, basis=basis, moved=_different(basis, state.moved))


def _different(basis: Basis, moved: Mapping[str, int]) -> dict[str, int]:
    start = basis.start
    kept = {name: value for name, value in moved.items() if value != BY_NAME[name].now(start.settings) or not _said(start.settings, name)}
    settings = changed(start, kept).settings
    for name in list(kept):
        values = BY_NAME[name].choices(start, settings)
        if kept[name] not in values and name != "length":
            del kept[name]
    return kept


def _said(settings: Settings, name: str) -> bool:
    """Whether the recipe's settings have a value there: no rank without an adapter."""
    return name != "LoRA rank" or settings.lora
