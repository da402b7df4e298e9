"""Models of families without formulas: what was counted on one without memory (tuitune.analyst.meta_memory), and what follows from it.

What autograd keeps is a constant and a share of each position and of each entry of the attention's scores, which three lengths tell; a peak
is the highest of several such moments, one that hardly grows and, for all but the smallest micro-batches, one that does. Imports no torch.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

from tuitune.errors import UserError
from tuitune.memory.settings import Settings
from tuitune.text import printable

Targets = str | tuple[str, ...] | None
RANK = 16  # of the adapters that are counted; other ranks differ by a known share


@dataclass(frozen=True)
class Way:
    """How a layer is trained, as far as it decides what it keeps. `weights`: "float32", "half" or "nf4"; `input_casts`: adapters copy
    their inputs to their own type; `masked`: attention gets a mask; `eager`: it is written out. The others as in Settings."""

    weights: Literal["float32", "half", "nf4"]
    amp: bool
    lora: bool
    targets: Targets
    adapter_bytes: int
    input_casts: bool
    dropout: bool
    masked: bool
    eager: bool


@dataclass(frozen=True)
class Growth:
    """Bytes: a constant, for each position of the micro-batch, and for each pair of positions of a row (rows · length²); `least` of them
    in any case."""

    constant: float
    token: float
    entry: float
    least: float = 0.0

    def at(self, settings: Settings) -> int:
        """Bytes of this micro-batch."""
        return round(max(self.constant + settings.tokens * (self.token + self.entry * settings.row_tokens), self.least))


@dataclass(frozen=True)
class Footprint:
    """What one way of training takes beside weights, gradients and states. `layer`: kept by a layer, the mean of all; `moment` and
    `recomputed`: the most that the backward pass of one holds beyond that, not checkpointed and checkpointed; `whole`: kept once for all
    layers (mask, positions); `final`: by what follows the last layer, and `norm`: beyond that while it is differentiated; `evaluation`:
    the most of a forward pass without gradients."""

    layer: Growth
    moment: Growth
    recomputed: Growth
    whole: Growth
    final: Growth
    norm: Growth
    evaluation: Growth


@dataclass(frozen=True)
class Adapters:
    """peft's adapters for these target modules: of each (elements for a rank of one, how many in the model), and the adapted modules."""

    targets: Targets
    tensors: tuple[tuple[int, int], ...]
    modules: int


@dataclass(frozen=True)
class Measured:
    """`tensors`: what is neither a linear layer nor an embedding, as (elements, how many). `footprints`: by way of training."""

    tensors: tuple[tuple[int, int], ...]
    adapters: tuple[Adapters, ...]
    footprints: tuple[tuple[Way, Footprint], ...]

    def __hash__(self) -> int:
        return hash((self.tensors, len(self.footprints)))

    @cached_property
    def _by_way(self) -> dict[Way, Footprint]:
        return dict(self.footprints)

    def footprint(self, settings: Settings, masked: bool) -> Footprint:
        """Of a run with these settings. UserError for a way of training that has not been counted."""
        found = self._by_way.get(way_of(settings, masked))
        if found is None:
            raise UserError(
                "this way of training has not been counted for a model without formulas; write it into the recipe and plan that"
            )
        return found

    def adapter(self, targets: Targets) -> Adapters:
        """The adapters of these target modules. UserError for modules that peft was not asked for."""
        found = next((one for one in self.adapters if one.targets == targets), None)
        if found is None:
            shown = printable(str(targets), limit=80)
            raise UserError(f"peft.target_modules: {shown} has not been counted for this model; write it into the recipe and plan that")
        return found


def way_of(settings: Settings, masked: bool) -> Way:
    """The way of training of these settings; what only an adapter has is the same for all without one."""
    weights: Literal["float32", "half", "nf4"] = "nf4" if settings.quantised else "float32" if settings.weight_bytes == 4 else "half"
    lora = settings.lora
    return Way(
        weights=weights,
        amp=settings.amp,
        lora=lora,
        targets=settings.targets if lora else None,
        adapter_bytes=settings.adapter_bytes if lora else 0,
        input_casts=lora and settings.input_casts,
        dropout=lora and settings.dropout > 0,
        masked=masked,
        eager=settings.attention == "eager",
    )


def ways(settings: Settings, adapter_dtype: str | None) -> list[Way]:
    """The recipe's way and those that the advice and the sliders of the plan view lead to: in 4 bits or not, with a mask or not."""
    adapted = settings if settings.lora else replace(settings, lora=True, targets="all-linear", dropout=0.0, adapter_bytes=4)
    half = 2 if adapter_dtype in ("bfloat16", "trl") else 4
    others = [
        replace(adapted, weights="nf4"),
        replace(adapted, weights="nf4", adapter_bytes=half),
        replace(settings, weights="bfloat16"),
        replace(settings, weights="bfloat16", adapter_bytes=2 if adapter_dtype == "bfloat16" else 4),
    ]
    if settings.quantised:
        others = others[2:]
    elif settings.weight_bytes == 2:
        others = others[:2]
    found = [way_of(one, masked) for one in (settings, *others) for masked in (False, True)]
    return list(dict.fromkeys(found))


def as_json(value: Any) -> Any:
    """A record of this module as JSON can say it."""
    if isinstance(value, tuple | list):
        return [as_json(one) for one in value]
    return {name.name: as_json(getattr(value, name.name)) for name in fields(value)} if hasattr(value, "__dataclass_fields__") else value


def way_from_json(document: Any) -> Way:
    """What as_json made of a Way. KeyError or TypeError when it is something else."""
    return Way(**{**document, "targets": _targets(document["targets"])})


def measured_from_json(document: Any) -> Measured:
    """What as_json made of a Measured. KeyError, TypeError or ValueError when it is something else."""
    return Measured(
        tensors=_pairs(document["tensors"]),
        adapters=tuple(Adapters(_targets(one["targets"]), _pairs(one["tensors"]), int(one["modules"])) for one in document["adapters"]),
        footprints=tuple(
            (way_from_json(way), Footprint(**{name: Growth(**growth) for name, growth in footprint.items()}))
            for way, footprint in document["footprints"]
        ),
    )


def _targets(value: Any) -> Targets:
    return tuple(str(name) for name in value) if isinstance(value, list) else value


def _pairs(value: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(size), int(count)) for size, count in value)
