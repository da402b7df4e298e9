"""Counts what a model without a formula takes: sizes from its real modules, growth with the length from three steps without memory."""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tuitune.analyst.meta_memory.model import FULL, HALF, Parts, adapt, adapters_of, bare_model, parts_of, shortened, trained_model, why
from tuitune.analyst.meta_memory.steps import ROWS, Seen, take_steps
from tuitune.errors import UserError
from tuitune.memory.measured import Footprint, Growth, Measured, Way, as_json, way_from_json

SHORT, LENGTHS = 32, (256, 512, 1024)  # tokens; models whose positions end before are not taken further


def count(progress: Callable[[str], None], *, folder: str, ways: Sequence[Any]) -> dict[str, Any]:
    """The document that tuitune.memory.unknown reads: sizes, and a footprint for each way of training. `folder` holds config.json; `ways`
    as tuitune.memory.measured.as_json makes them. UserError when it cannot be had."""
    place, asked = Path(folder), [way_from_json(way) for way in ways]
    progress("making the model without memory")
    bare = bare_model(place, HALF)
    parts, config = parts_of(bare), bare.config.get_text_config()
    kinds = _kinds(bare, parts)
    wanted = dict.fromkeys(["all-linear", *(way.targets for way in asked if way.lora)])
    adapters = tuple(adapters_of(adapt(bare_model(place, HALF), targets), targets) for targets in wanted)
    footprints = []
    for at, way in enumerate(asked):
        progress(f"counting what its layers keep, {at + 1} of {len(asked)}")
        footprints.append((way, footprint(place, way, parts.layers, kinds)))
    return {
        "family": str(config.model_type),
        "hidden": parts.hidden,
        "vocab": parts.vocab,
        "layers": len(parts.layers),
        "heads": int(config.num_attention_heads),
        "kv_heads": int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads),
        "tied": parts.tied,
        "head_bias": parts.head_bias,
        "window": _window(config),
        "linears": _linears(parts),
        "measured": as_json(Measured(parts.tensors, adapters, tuple(footprints))),
    }


def footprint(folder: Path, way: Way, layers: tuple[str, ...], kinds: Sequence[int]) -> Footprint:
    """What one way of training takes. UserError when the model cannot be run without memory."""
    kept = min(len(layers), kinds.index(max(kinds)) + 3)  # all kinds of layers, and one more, whose beginning ends the one before
    model = bare_model(folder, FULL if way.weights == "float32" else HALF, way.eager)
    most = min(LENGTHS[-1], getattr(model.config.get_text_config(), "max_position_embeddings", None) or LENGTHS[-1])
    lengths = (SHORT, *(length * most // LENGTHS[-1] for length in LENGTHS))
    shortened(model, layers, kept)
    try:
        steps = take_steps(
            trained_model(model, way), layers[:kept], adapted=way.lora, amp=way.amp, masked=way.masked and not way.eager, lengths=lengths
        )
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"this {type(model).__name__} cannot be run without memory ({why(error)})") from error

    def growth(of: Callable[[Seen, Seen], float], *, of_peaks: bool = False) -> Growth:
        short, *sizes = [of(plain, again) for plain, again in steps]
        return _growth(lengths[1:], sizes, least=short if of_peaks else 0.0)

    return Footprint(
        layer=growth(lambda plain, again: _mean(plain.layers, kinds)),
        moment=growth(lambda plain, again: max(plain.moments), of_peaks=True),
        recomputed=growth(lambda plain, again: max(again.moments) - _mean(plain.layers, kinds), of_peaks=True),
        whole=growth(lambda plain, again: plain.whole),
        final=growth(lambda plain, again: _final(plain, kinds)),
        norm=growth(lambda plain, again: plain.norm, of_peaks=True),
        evaluation=growth(lambda plain, again: plain.evaluation, of_peaks=True),
    )


def _of_kinds(each: Sequence[int], kinds: Sequence[int]) -> dict[int, int]:
    """What a layer of each kind keeps, from the first layers: best from one in the middle, since the first may hold the embedding's output
    and the last still has its input."""
    middle = range(1, len(each) - 1)
    return {kinds[at]: each[at] for at in (len(each) - 1, 0, *middle)}


def _mean(each: Sequence[int], kinds: Sequence[int]) -> float:
    """The mean over all layers of the model."""
    known = _of_kinds(each, kinds)
    return sum(known[kind] for kind in kinds) / len(kinds)


def _final(seen: Seen, kinds: Sequence[int]) -> int:
    """What is kept behind the layers: all but they and what is before them."""
    known = _of_kinds(seen.layers, kinds)
    return seen.kept - seen.whole - seen.layers[0] - sum(known[kind] for kind in kinds[1 : len(seen.layers)])


def _growth(lengths: Sequence[int], sizes: Sequence[float], least: float) -> Growth:
    """The parabola through the sizes at three lengths."""
    (a, b, c), (first, second, third) = lengths, sizes
    low, high = (second - first) / (b - a), (third - second) / (c - b)
    square = (high - low) / (c - a)
    slope = low - square * (a + b)
    return Growth(first - slope * a - square * a * a, slope / ROWS, square / ROWS, least)


def _kinds(model: Any, parts: Parts) -> list[int]:
    """A number for each layer: the same for layers of one class whose weights have the same names and shapes."""
    seen: dict[Any, int] = {}
    kinds = []
    for name in parts.layers:
        layer = model.get_submodule(name)
        key = (type(layer), tuple((inner, tuple(weight.shape)) for inner, weight in layer.named_parameters()))
        kinds.append(seen.setdefault(key, len(seen)))
    return kinds


def _window(config: Any) -> int | None:
    """Tokens that sliding attention sees; None without."""
    window = getattr(config, "sliding_window", None)
    return window if isinstance(window, int) and getattr(config, "use_sliding_window", True) else None


def _linears(parts: Parts) -> list[Any]:
    """[path, inputs, outputs, bias, how many]: inside of the layers by their path there, others by their whole name."""
    found: Tally[Any] = Tally()
    for name, sizes in parts.linears.items():
        layer = next((one for one in parts.layers if name.startswith(f"{one}.")), None)
        found[(name.removeprefix(f"{layer}.") if layer else name, *sizes)] += 1
    return [[*key, count] for key, count in found.items()]
