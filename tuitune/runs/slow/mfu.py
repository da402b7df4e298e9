"""Model FLOPs utilisation: what the tokens of a step need by arithmetic, against what the card multiplies at most. Pure.

MFU counts what the method needs and nothing else, so neither padding nor recomputation. A token takes, of the P elements of the linear
layers that it goes through,

    LoRA            4·P    forward 2·P, gradients of the inputs 2·P
    full            6·P    and gradients of the weights 2·P
    a reference     +2·P   DPO's other model reads every batch too

attention 2·l·w·n forward and twice that backward (l: mean length of a row, w: width of the queries, n layers; each token sees half of its
row), and the head 2·V·h for each of these passes at the tokens that count for the loss. HFU (hardware) is what the card really did: padding
computed like tokens, and 2·P more for every layer that checkpointing recomputes (LoRA 6·P, full 8·P).
"""

import re
from dataclasses import dataclass

from tuitune.bus.envelope import as_number
from tuitune.memory.step_time import CARDS
from tuitune.preflight.cards import known_name
from tuitune.runs.slow.tally import Tally

# The same chip with less power: NVIDIA's H100 data sheet, dense (half of what it gives with sparsity), TFLOP/s
VARIANTS = {"H100 PCIe": 756.0, "H100 NVL": 835.0}
_OTHER = re.compile(r"\b(MIG|Laptop|Max-Q|SUPER|Ti|D)\b")  # a part of a card, or another chip than the name alone says


@dataclass(frozen=True)
class Utilisation:
    """Shares of `peak` (dense 16-bit TFLOP/s of all the run's cards together); `formula`: what was counted, in words."""

    mfu: float
    hfu: float
    achieved: float
    peak: float
    formula: str


def peak_of(card: str) -> float | None:
    """Dense 16-bit TFLOP/s (sums in float32) of a card by the driver's name; None when its data sheet's figure is not known here."""
    if _OTHER.search(card):
        return None
    variant = next((peak for name, peak in VARIANTS.items() if name in card), None)
    known = CARDS.get(known_name(card) or "")
    return variant or (known[0] if known else None)


def utilisation(tally: Tally) -> Utilisation | str:
    """Of the recent steps, or in one sentence why there is none."""
    if not tally.card_names:
        return "there is no GPU whose peak it could be compared with"
    card = tally.card_names[0]
    peak = peak_of(card)
    if peak is None:
        return f"the peak of {card} is not known here"
    if why := tally.work.get("why"):
        return str(why)
    steady = [one for one in tally.steady() if one.places]
    seconds = sum(one.steps * one.wall_ms for one in steady) / 1000
    per_token = _flops(tally)
    if per_token is None or not seconds:
        return "the run's trainer does not say what its steps compute"
    useful, recomputed = per_token
    places = sum(one.steps * (one.places or 0.0) for one in steady)
    tokens = sum(one.steps * (one.places or 0.0) * (1 - (one.padding or 0.0)) for one in steady)
    most = peak * 1e12 * tally.world
    achieved = tokens * useful / seconds
    done = places * (useful + recomputed) / seconds
    return Utilisation(achieved / most, done / most, achieved / 1e12, most / 1e12, _formula(tally))


def _flops(tally: Tally) -> tuple[float, float] | None:
    """FLOP a token: (what the method needs, what is computed again)."""
    names = ("weights", "head", "layers", "query_width")
    figures = [as_number(tally.work.get(name)) for name in names]
    if any(figure is None for figure in figures) or not figures[0]:
        return None
    weights, head, layers, width = (figure or 0.0 for figure in figures)
    full, reference = bool(tally.work.get("full")), bool(tally.work.get("reference"))
    length = min(tally.length or 0.0, as_number(tally.work.get("window")) or float("inf"))
    attention = 2 * length * width * layers
    products = 2 + full + reference
    scored = 1.0 if tally.scored is None else tally.scored
    useful = 2 * weights * products + attention * (3 + reference) + 2 * head * scored * products
    return useful, (2 * weights + attention) * (as_number(tally.work.get("recompute")) or 0.0)


def _formula(tally: Tally) -> str:
    products = 2 * (2 + bool(tally.work.get("full")) + bool(tally.work.get("reference")))
    weights = (as_number(tally.work.get("weights")) or 0.0) / 1e9
    return f"{products}·P a token, P = {weights:.3g}·10⁹ in linear layers, with attention and head"
