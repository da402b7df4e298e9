"""What to change so that a run fits a card, or goes faster on it, each change with the peak it leads to. Pure, as the plan is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import Device, Settings
from tuitune.memory.shape import Shape

WITHIN = 0.95  # of a card's memory is planned for: a plan may be 5 % off
STEP = 64  # tokens between two lengths that are tried
FEWEST = 128  # shortest length advised


@dataclass(frozen=True)
class Change:
    """Recipe keys and their new values; the settings that follow; `costs` in words."""

    values: dict[str, object]
    settings: Settings
    costs: str


@dataclass(frozen=True)
class Advice:
    """A change on top of those before it, and the plan with all of them."""

    change: Change
    plan: Plan


def fits(planned: Plan, memory: int) -> bool:
    """Whether the plan says that it fits."""
    return planned.needed <= memory


def advise(shape: Shape, settings: Settings, device: Device, memory: int) -> list[Advice]:
    """Changes in order of what they cost, one on top of the other, until the run fits with 5 % to spare; what changes nothing is left out.
    For a run that fits so already: what makes it faster and still fits."""
    room = int(memory * WITHIN)
    now = plan(shape, settings, device)
    if fits(now, room):
        return [Advice(change, made) for change in faster(settings) if fits(made := plan(shape, change.settings, device), room)]
    found: list[Advice] = []
    for change_of in SAVING:
        change = change_of(shape, settings, device, room)
        if change is None:
            continue
        made = plan(shape, change.settings, device)
        if made.needed < now.needed:
            found.append(Advice(change, made))
            settings, now = change.settings, made
        if fits(now, room):
            break
    return found


def faster(settings: Settings) -> Iterator[Change]:
    """Changes that trade memory for time."""
    if settings.checkpoint_every:
        without = replace(settings, checkpoint_every=0)
        yield Change({"training.activation_checkpointing": False}, without, "nothing but memory: no second forward pass")
    if settings.accumulation % 2 == 0:
        wider = replace(settings, batch=settings.batch * 2, accumulation=settings.accumulation // 2)
        yield Change(_batch_keys(wider), wider, "nothing but memory: the same rows an update in half as many passes")


def smaller_evaluation(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """An evaluation batch of one, when the evaluation is the peak."""
    if settings.eval_batch <= 1 or plan(shape, settings, device).peak != "evaluation":
        return None
    return Change({"training.per_device_eval_batch_size": 1}, replace(settings, eval_batch=1), "a slower evaluation")


def smaller_batch(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """The largest micro-batch that fits and divides this one, else one row; accumulation makes up for it. A larger evaluation batch comes
    down with it."""
    divisors = [size for size in range(settings.batch - 1, 0, -1) if settings.batch % size == 0]
    change = None
    for size in divisors:
        split = replace(settings, batch=size, accumulation=settings.accumulation * settings.batch // size)
        split = replace(split, eval_batch=min(split.eval_batch, size))
        change = Change(_batch_keys(split), split, "time: more, smaller passes for the same rows an update")
        if fits(plan(shape, split, device), room):
            break
    return change


def checkpointing(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """Every layer checkpointed."""
    if settings.checkpoint_every == 1:
        return None
    changed = replace(settings, checkpoint_every=1)
    values: dict[str, object] = {"training.activation_checkpointing": True}
    if settings.checkpoint_every:  # on alone would leave it at every n-th
        values["training.activation_checkpointing_kwargs"] = {"every_n_layers": 1}
    return Change(values, changed, "up to half as much time again: every layer is computed twice")


def fused_loss(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """TRL's loss without logits."""
    if settings.loss != "smoothed":
        return None
    return Change({"training.label_smoothing_factor": 0.0}, replace(settings, loss="fused"), "label smoothing")


def small_states(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """Adam's states in 8 bits."""
    if settings.optimizer == "adamw_8bit":
        return None
    return Change({"training.optim": "adamw_8bit"}, replace(settings, optimizer="adamw_8bit"), "Adam's states are rounded to 8 bits")


def four_bits(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """QLoRA: the base in 4 bits, an adapter in the place of full fine-tuning."""
    if settings.quantised:
        return None
    values: dict[str, object] = {
        "quantization.load_in_4bit": True,
        "quantization.bnb_4bit_quant_type": "nf4",
        "quantization.bnb_4bit_use_double_quant": True,
        "model.dtype": "bfloat16",
    }
    changed = replace(settings, weights="nf4 double")
    costs = "a base model that is rounded to 4 bits, and slower steps"
    if not settings.lora:
        values |= {"peft.r": 16, "peft.target_modules": "all-linear"}
        changed = replace(changed, lora=True, rank=16, targets="all-linear", dropout=0.0, adapter_bytes=4)
        changed = replace(changed, reference="shared" if settings.reference != "none" else "none")
        costs = "an adapter is trained instead of all weights, on a base that is rounded to 4 bits"
    return Change(values, changed, costs)


def shorter(shape: Shape, settings: Settings, device: Device, room: int) -> Change | None:
    """The largest length that fits, half the length at the least."""
    length = max(largest_length(shape, settings, device, room, most=settings.length), settings.length // 2 // STEP * STEP, FEWEST)
    if length >= settings.length:
        return None
    return Change({"training.max_length": length}, replace(settings, length=length), "longer rows are cut")


SAVING: tuple[Callable[[Shape, Settings, Device, int], Change | None], ...] = (
    smaller_evaluation,
    smaller_batch,
    checkpointing,
    fused_loss,
    small_states,
    four_bits,
    shorter,
)


def largest_batch(shape: Shape, settings: Settings, device: Device, room: int) -> int:
    """The largest micro-batch that needs at most `room` bytes; 0 when not even one row fits."""
    return _largest(lambda size: plan(shape, replace(settings, batch=size, eval_batch=0), device).needed <= room, 4096)


def largest_length(shape: Shape, settings: Settings, device: Device, room: int, most: int = 1 << 20) -> int:
    """The largest length, in steps of 64 tokens up to `most`, that needs at most `room` bytes; 0 when not even 64 fit."""
    return STEP * _largest(lambda steps: plan(shape, replace(settings, length=steps * STEP), device).needed <= room, most // STEP)


def _largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number from 1 to `most` for which a condition holds that small numbers fulfil first; 0 when none does."""
    good, bad = 0, 1
    while bad <= most and holds(bad):
        good, bad = bad, bad * 2
    bad = min(bad, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def _batch_keys(settings: Settings) -> dict[str, object]:
    keys: dict[str, object] = {
        "training.per_device_train_batch_size": settings.batch,
        "training.gradient_accumulation_steps": settings.accumulation,
    }
    return keys | ({"training.per_device_eval_batch_size": settings.eval_batch} if settings.eval_batch else {})
