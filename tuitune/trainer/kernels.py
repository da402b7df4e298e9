"""`use_liger_kernel: auto` and `torch_compile: auto`, put into force on the built trainer; the ledger says what was chosen and why.

Liger's kernels are put in by transformers itself when `train()` begins, with adapters already in place (integrations/liger.py): into norms
and MLPs of the model inside of them. tuitune only says so to the trainer's arguments, as TRL would.
Decoder layers are compiled where they stand (torch.nn.Module.compile), as accelerate does it for FSDP (compile_regions_fsdp2): nothing is
wrapped, so no name changes, and one graph serves all layers that are alike. The rest stays as it is: TRL replaces the head's forward pass,
and the embedding's output is made to want a gradient by a hook.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.other import is_repeated_blocks

from tuitune.recipe.strategy import strategy_of
from tuitune.trainer.box import FillIn
from tuitune.trainer.kernel_choice import COMPILE, LIGER, why_no_liger, why_not_compiled

if TYPE_CHECKING:
    from tuitune.trainer.build import Built


def choose_kernels(built: "Built") -> None:
    """Put into force what the recipe leaves to tuitune of both keys."""
    _choose_liger(built)
    _choose_compiling(built)


def _choose_liger(built: "Built") -> None:
    recipe, trainer = built.recipe, built.trainer
    if recipe.training.get(LIGER) != "auto":  # where it is absent too, once its figures on a GPU are in (tests/bench/throughput.py)
        return
    config, dtype = trainer.model.config, str(trainer.model.dtype).removeprefix("torch.")
    own_reference = getattr(trainer, "ref_model", None) is not None
    why = why_no_liger(recipe.task, getattr(config, "model_type", None), dtype, built.box, own_reference)
    if why:
        built.filled["training", LIGER] = FillIn(False, why)
        return
    trainer.args.use_liger_kernel = True
    trainer.args.liger_kernel_config = {**(trainer.args.liger_kernel_config or {}), "fused_linear_cross_entropy": False}
    built.filled["training", LIGER] = FillIn(True, "norms, rotary positions and MLP in one kernel each: faster, and less is kept")
    built.filled["training", "liger_kernel_config"] = FillIn(trainer.args.liger_kernel_config, "the head is TRL's own fused one")


def _choose_compiling(built: "Built") -> None:
    recipe, trainer = built.recipe, built.trainer
    if recipe.training.get(COMPILE) != "auto" or trainer.args.torch_compile:  # a backend or mode that is written compiles the whole model
        return
    steps = steps_of(trainer)
    why = why_not_compiled(recipe.task, built.box, strategy_of(recipe.launch), steps, liger=bool(trainer.args.use_liger_kernel))
    if why:
        built.filled["training", COMPILE] = FillIn(False, why)
        return
    count = compile_layers(trainer.model)
    # the accelerator was made before, so this only reports: it does not compile the whole model as well
    trainer.args.torch_compile = True
    built.filled["training", COMPILE] = FillIn(
        True, f"{count} layers, each by itself, for any length: {steps:,} steps win back what it takes"
    )


def steps_of(trainer: Any) -> int:
    """Optimizer steps of the whole run, as transformers' Trainer will count them."""
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    batches = math.ceil(len(trainer.train_dataset) / (args.per_device_train_batch_size * args.world_size))
    updates = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
    steps: int = math.ceil(float(args.num_train_epochs) * updates)
    return steps


def compile_layers(model: Any, backend: str = "inductor") -> int:
    """Compile each repeated block of `model` in place, for micro-batches of any length, and say how many there are.

    Nothing is compiled before a layer is first called.
    """
    layers = list(repeated_blocks(model))
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
    return len(layers)


def repeated_blocks(model: Any) -> Iterator[Any]:
    """The outermost lists of modules of one class, module by module: a language model's decoder layers."""
    if is_repeated_blocks(model):
        yield from model
        return
    for child in model.children():
        yield from repeated_blocks(child)


def uncompiled(model: Any) -> AbstractContextManager[Any]:
    """Inside it compiled layers run as they were written: an answer grows token by token beside a cache, which would be compiled anew for
    each layer until torch gives up."""
    if not any(getattr(layer, "_compiled_call_impl", None) for layer in repeated_blocks(model)):
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
