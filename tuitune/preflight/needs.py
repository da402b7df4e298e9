"""What a recipe needs of a box, from headers and the recipe alone, in bytes: the memory plan where there is one, else lower bounds."""

from dataclasses import dataclass
from typing import Any

from tuitune.errors import UserError
from tuitune.memory.advice import Advice, advise
from tuitune.memory.calibration import box_of, read_calibration
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import Device, device
from tuitune.network import hub_names
from tuitune.planning import Planned, plan_recipe
from tuitune.preflight.context import Context
from tuitune.preflight.finding import NotHere
from tuitune.preflight.model_files import Tensor, locate_model
from tuitune.preflight.sizes import count, is_linear, quantised_bytes
from tuitune.recipe.recipe import Recipe
from tuitune.recipe.schema import load_schema

ADAM = 8  # bytes a trained parameter: two float32 moments
FLOAT = 4
HALF = 2


def needs_bitsandbytes(recipe: Recipe) -> bool:
    """Whether its weights are quantised or its optimizer is one of bitsandbytes'."""
    quantised = any((recipe.quantization or {}).get(key) for key in ("load_in_4bit", "load_in_8bit"))
    optimizer = str(recipe.training.get("optim") or "")
    return quantised or "8bit" in optimizer or "bnb" in optimizer or optimizer.startswith("paged_")


@dataclass(frozen=True)
class GpuPlan:
    """The memory plan of a recipe on the card that it is meant for."""

    planned: Planned
    made: Plan
    device: Device

    def advice(self, room: int) -> list[Advice]:
        """What to change so that the run fits into `room` bytes (tuitune.memory.advice)."""
        return advise(self.planned.shape, self.planned.settings, self.device, room)


@dataclass(frozen=True)
class GpuNeed:
    """`bytes` of one card: the plan's, or, without a plan, what weights and their training take at the very least."""

    bytes: int
    plan: GpuPlan | None = None


def gpu_need(context: Context) -> GpuNeed | None:
    """What a run needs of its card; None when there is neither a plan nor are the weights here to be counted."""
    try:
        planned = plan_recipe(context.recipe, load_schema(), context.card)
        card = context.card
        stack = device(card.capability, read_calibration(box_of(card.name, card.driver)) if card.gpu else None)
        made = plan(planned.shape, planned.settings, stack)
    except (NotHere, UserError):
        least = gpu_bytes(context)
        return None if least is None else GpuNeed(least)
    return GpuNeed(made.needed, GpuPlan(planned, made, stack))


def gpu_bytes(context: Context) -> int | None:
    """Weights, and for full fine-tuning their gradients and moments; None when the weights are not here to be counted."""
    tensors = _tensors(context)
    if not tensors:
        return None
    if context.full:
        return _parameters(tensors) * (FLOAT + FLOAT + ADAM)
    if not context.quantised:
        return _parameters(tensors) * HALF
    bits = 4 if (context.recipe.quantization or {}).get("load_in_4bit") else 8
    return quantised_bytes(tensors, bits, HALF)


def checkpoint_bytes(context: Context) -> tuple[int, int]:
    """(bytes of one checkpoint, how many there are at a time at most)."""
    tensors = _tensors(context)
    training = context.training
    if training.get("save_strategy") == "no" or not tensors:
        each = 0
    else:
        trained = _parameters(tensors) if context.full else _lora_parameters(tensors, context.recipe.peft or {})
        each = trained * (FLOAT if training.get("save_only_model") else FLOAT + ADAM)
    limit = training.get("save_total_limit")
    return each, (limit if isinstance(limit, int) and limit > 0 else 3) + 1


def largest_file(context: Context) -> tuple[int, int]:
    """(weight files, bytes of the largest)."""
    try:
        sizes = [header.file.stat().st_size for header in context.model.headers]
    except (NotHere, UserError, OSError):
        return 0, 0
    return len(sizes), max(sizes, default=0)


def unresolved(recipe: Recipe) -> list[tuple[tuple[str | int, ...], str, str]]:
    """(recipe key, name, what is lacking) for every model of the Hub that is not wholly in the cache."""
    found: list[tuple[tuple[str | int, ...], str, str]] = []
    names = hub_names(recipe)
    for key in ("name_or_path", "adapter"):
        name = recipe.model.get(key)
        if name and name in names:
            folder = locate_model({**recipe.model, "name_or_path": name})
            if folder is None:
                found.append((("model", key), name, "is not in the cache"))
            elif broken := [file.name for file in folder.iterdir() if file.is_symlink() and not file.exists()]:
                found.append((("model", key), name, f"is in the cache without {', '.join(broken[:3])}"))
            elif not any(folder.glob("*.safetensors")):
                found.append((("model", key), name, "is in the cache without its weights"))
    return found


def _tensors(context: Context) -> list[Tensor]:
    try:
        return list(context.model.tensors.values())
    except (NotHere, UserError):
        return []


def _parameters(tensors: list[Tensor]) -> int:
    return sum(map(count, tensors))


def _lora_parameters(tensors: list[Tensor], peft: dict[str, Any]) -> int:
    rank = int(peft.get("r") or 8)
    targets = peft.get("target_modules")
    chosen = tuple(f"{name}.weight" for name in targets) if isinstance(targets, list) else ("",)
    saved = tuple(f"{name}.weight" for name in peft.get("modules_to_save") or ())
    wrapped = sum(sum(tensor.shape) for tensor in tensors if is_linear(tensor) and tensor.name.endswith(chosen))
    return rank * wrapped + sum(count(tensor) for tensor in tensors if tensor.name.endswith(saved))
