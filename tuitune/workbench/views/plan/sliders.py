"""The five sliders of the plan view: the values each has, what a value makes of the settings, and the recipe keys that say so.

Pure. A change is that of the memory advice: recipe keys with their values, and the settings that follow from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from tuitune.memory.advice import Change, four_bits
from tuitune.memory.settings import Device, Settings, Weights
from tuitune.memory.shape import Shape
from tuitune.preflight.cards import Card

LENGTHS = tuple(size for power in range(7, 18) for size in (1 << power, 3 << (power - 1)) if size <= 131_072)  # 128, 192, 256, 384 …
RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EVERY_N = 4  # layers: the sparsest checkpointing that is offered


@dataclass(frozen=True)
class Start:
    """What the sliders start from: the recipe's settings, and what settings do not say.

    `packing`: rows are joined, with or without padding. `adapter_dtype`: as launch.adapter_dtype. `continued`: the adapter is one that
    training goes on with, so its rank stands.
    """

    shape: Shape
    settings: Settings
    card: Card | None = None
    packing: bool = False
    adapter_dtype: str | None = None
    continued: bool = False


@dataclass(frozen=True)
class Slider:
    """`choices`: its values, from the one that takes least memory; `now`: the value that settings have; `change`: to another one, from
    settings that other sliders may have changed; `words`: a value as people read it."""

    name: str
    choices: Callable[[Start, Settings], tuple[int, ...]]
    now: Callable[[Settings], int]
    change: Callable[[Start, Settings, int], Change]
    words: Callable[[Start, Settings], str]


def changed(start: Start, moved: Mapping[str, int]) -> Change:
    """All sliders at the values in `moved` (slider's name → value), the others as in the recipe."""
    values: dict[str, object] = {}
    settings = start.settings
    for slider in APPLIED:
        if slider.name in moved:
            change = slider.change(start, settings, moved[slider.name])
            settings = change.settings
            values |= change.values
    return Change(values, settings, "")


def _ladder(steps: tuple[int, ...], *own: int) -> tuple[int, ...]:
    return tuple(sorted({*steps, *own}))


def _length(start: Start, settings: Settings, value: int) -> Change:
    return Change({"training.max_length": value}, replace(settings, length=value), "")


def _batches(start: Start, settings: Settings) -> tuple[int, ...]:
    """The micro-batches that leave the rows of an update as they are."""
    return _divisors(start.settings.batch * start.settings.accumulation)


@cache
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(size for size in range(1, number + 1) if number % size == 0)


def _batch(start: Start, settings: Settings, value: int) -> Change:
    rows = start.settings.batch * start.settings.accumulation
    evaluation = min(start.settings.eval_batch, value)
    always = start.settings.task in ("dpo", "reward")  # pairs differ in length
    padded = not settings.packed and not start.packing and (value > 1 or always)
    values: dict[str, object] = {
        "training.per_device_train_batch_size": value,
        "training.gradient_accumulation_steps": rows // value,
    }
    if evaluation:
        values["training.per_device_eval_batch_size"] = evaluation  # unless written it would follow the training batch
    return Change(values, replace(settings, batch=value, accumulation=rows // value, eval_batch=evaluation, padded=padded), "")


def _ranks(start: Start, settings: Settings) -> tuple[int, ...]:
    if not settings.lora or start.continued:
        return ()
    return _ladder(RANKS, settings.rank, *((start.settings.rank,) if start.settings.lora else ()))


def _rank(start: Start, settings: Settings, value: int) -> Change:
    if not _ranks(start, settings):  # the weights' slider was put back: there is no adapter any more
        return Change({}, settings, "")
    return Change({"peft.r": value}, replace(settings, rank=value), "")


def _checkpoints(start: Start, settings: Settings) -> tuple[int, ...]:
    """Every layer, every second …, none: 1, 2, …, 0. DPOTrainer knows all or none."""
    if settings.task == "dpo":
        return (1, 0)
    sparse = _ladder(tuple(range(1, EVERY_N + 1)), start.settings.checkpoint_every or 1)
    return (*(every for every in sparse if every <= max(start.shape.layers, start.settings.checkpoint_every)), 0)


def _checkpoint(start: Start, settings: Settings, value: int) -> Change:
    values: dict[str, object] = {"training.activation_checkpointing": value > 0}
    if value > 1:
        values["training.activation_checkpointing_kwargs"] = {"every_n_layers": value}
    return Change(values, replace(settings, checkpoint_every=value), "")


def _weights(start: Start, settings: Settings, value: int) -> Change:
    """1: 4 bits, 0: not quantised."""
    if value == start.settings.quantised:
        return Change({}, settings, "")
    if value:
        change = four_bits(start.shape, settings, Device(), 0)
        assert change is not None  # the recipe's weights are not in 4 bits
        values, settings = change.values, change.settings
    else:
        kept: Weights = "float16" if start.card is not None and start.card.bfloat16 is False else "bfloat16"
        values, settings = {"quantization": None, "model.dtype": kept}, replace(settings, weights=kept)
    half = start.adapter_dtype == "bfloat16" or (start.adapter_dtype == "trl" and settings.quantised)
    return Change(values, replace(settings, adapter_bytes=2 if half else 4), "")


def _rank_words(start: Start, settings: Settings) -> str:
    if not settings.lora:
        return "none: all weights"
    return f"{settings.rank}, the adapter's own" if start.continued else str(settings.rank)


def _batch_words(start: Start, settings: Settings) -> str:
    rows = settings.batch * settings.accumulation
    return f"{settings.batch} × {settings.accumulation} = {rows} row{'s' * (rows != 1)}"


def checkpoint_words(start: Start, settings: Settings) -> str:
    """off, every layer, every 2nd layer …"""
    every = settings.checkpoint_every
    return "off" if not every else "every layer" if every == 1 else f"every {every}{ {2: 'nd', 3: 'rd'}.get(every, 'th') } layer"


def _weights_words(start: Start, settings: Settings) -> str:
    return f"4 bits ({settings.weights})" if settings.quantised else settings.weights


SLIDERS: tuple[Slider, ...] = (
    Slider(
        "length",
        lambda start, settings: _ladder(LENGTHS, start.settings.length, settings.length),
        lambda settings: settings.length,
        _length,
        lambda start, settings: f"{settings.length:,} tokens",
    ),
    Slider("micro-batch", _batches, lambda settings: settings.batch, _batch, _batch_words),
    Slider("LoRA rank", _ranks, lambda settings: settings.rank, _rank, _rank_words),
    Slider("checkpointing", _checkpoints, lambda settings: settings.checkpoint_every, _checkpoint, checkpoint_words),
    Slider("weights", lambda start, settings: (1, 0), lambda settings: int(settings.quantised), _weights, _weights_words),
)
APPLIED = sorted(SLIDERS, key=lambda slider: slider.name != "weights")  # the weights first: 4 bits may bring an adapter
BY_NAME = {slider.name: slider for slider in SLIDERS}
