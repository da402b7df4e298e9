"""A run on several GPUs at a glance: their sums, the one that the others wait for, and a line for each. Pure functions."""

from collections.abc import Sequence
from statistics import median

from tuitune.workbench import figures
from tuitune.workbench.gpu_reading import GpuReading
from tuitune.workbench.parts.role_lines import Line

SLOWER = 0.97  # of the others' clock: below it a card keeps them waiting, as every step ends with an exchange


def together_lines(cards: Sequence[GpuReading]) -> list[Line]:
    """Nothing for fewer than two cards."""
    if len(cards) < 2:
        return []
    used, power = (_sum([getattr(card, name) for card in cards]) for name in ("used", "power"))
    total, loads = _sum([card.total for card in cards]), [card.util for card in cards if card.util is not None]
    sums = f"{figures.gib(used)}/{figures.gib(total)} GiB used"
    load = f", util {figures.percent(sum(loads) / len(loads))}" if loads else ""
    watts = f", {power:,.0f} W" if power is not None else ""
    return [((f"{len(cards)} GPUs ", "title"), (f"{sums}{load}{watts}", "")), *_slowest(cards), *map(_row, cards)]


def _row(card: GpuReading) -> Line:
    heat = figures.UNKNOWN if card.temperature is None else f"{card.temperature:.0f}°C"
    watts = figures.UNKNOWN if card.power is None else f"{card.power:,.0f} W"
    used = f"{figures.gib(card.used)}/{figures.gib(card.total)} GiB"
    return ((f" {card.index:>2} ", "title"), (f"{used:>15}  util {figures.percent(card.util):>4}  {heat:>5}  {watts:>6}", ""))


def _slowest(cards: Sequence[GpuReading]) -> list[Line]:
    """The card with the lowest clock, where it is clearly behind."""
    clocks = [(card.sm_clock, card) for card in cards if card.sm_clock is not None]
    if len(clocks) < 2:
        return []
    lowest, slowest = min(clocks, key=lambda one: one[0])
    others = median(clock for clock, card in clocks if card is not slowest)
    if lowest >= SLOWER * others:
        return [(("all at the same clock", "dim"),)]
    why = [reason for reason in slowest.reasons if reason != "idle"]
    words = f" at {lowest:,.0f} MHz, the others {others:,.0f}" + (f" (limited by: {', '.join(why)})" if why else "")
    return [((f"slowest: GPU {slowest.index}", "warn"), (words, ""))]


def _sum(values: Sequence[float | None]) -> float | None:
    """None when one is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
