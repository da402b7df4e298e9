"""A trainer that has not begun, for a while as it is when it trains: to run its own steps before `train`, and leave nothing of it.

`train` does three things to the model before its first step that decide what a step costs, and they are undone in between: accelerate
wraps its forward in mixed precision, Liger's kernels take the place of its layers' (that stays: `train` does the same a moment later), and
layers are told to compute their forward pass again. Pinned by tests/contract/test_measured_split.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers.integrations.liger import apply_liger_kernel

from tuitune.recipe.aliases import twin
from tuitune.recipe.update_rows import ACCUMULATION, BATCH
from tuitune.trainer.box import FillIn
from tuitune.update_split import AGAIN, AGAIN_KWARGS

OURS = (BATCH, ACCUMULATION, AGAIN, AGAIN_KWARGS)
FORWARD = ("forward", "_original_forward")  # what prepare_model sets on the model itself


@contextmanager
def ready_to_train(trainer: Any) -> Iterator[None]:
    """In the block `trainer.training_step(trainer.model_wrapped, …)` computes what a step of the training computes. One process only;
    within tuitune.trainer.traceless.without_trace. Arguments that the block changes (write_split) are put back."""
    model, args, accelerator = trainer.model, trainer.args, trainer.accelerator
    before = {name: getattr(args, name) for name in _names(args)}
    own = {name: vars(model)[name] for name in FORWARD if name in vars(model)}
    models, loaders = list(accelerator._models), list(accelerator._dataloaders)
    asked = bool(getattr(model, "_require_grads_hooks", None))
    if args.use_liger_kernel:
        apply_liger_kernel(model, args.liger_kernel_config)
    try:
        accelerator.prepare_model(model, evaluation_mode=True)  # mixed precision alone: no wrapper for several processes
        yield
    finally:
        for name in FORWARD:
            vars(model).pop(name, None)
        vars(model).update(own)
        vars(model).pop("_is_accelerate_prepared", None)
        accelerator._models[:], accelerator._dataloaders[:] = models, loaders
        for name, value in before.items():
            setattr(args, name, value)
        model.disable_input_require_grads()
        if asked:
            model.enable_input_require_grads()


def write_split(trainer: Any, values: Mapping[str, FillIn]) -> None:
    """Have the trainer train with these micro-batches, and recomputation where it is among the values (newest names). Before `train`."""
    args = trainer.args
    for name in _names(args):
        key = next(key for key in OURS if name in (key, twin(key)))
        if key in values:
            setattr(args, name, values[key].value)
        elif key == AGAIN_KWARGS and AGAIN in values:
            setattr(args, name, None)
    trainer._train_batch_size = args.train_batch_size


def recompute_as_told(trainer: Any) -> None:
    """Have the model's layers compute their forward pass again as the arguments say, as `train` does; or not at all."""
    model, args = trainer.model, trainer.args
    told = {key: next((value for name in (key, twin(key)) if (value := getattr(args, str(name), None))), None) for key in OURS[2:]}
    model.disable_input_require_grads()
    if told[AGAIN]:
        options = dict(told[AGAIN_KWARGS] or {})
        layers, offload = options.pop("every_n_layers", 1), options.pop("offload", False)
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable(options or None, every_n_layers=layers, offload=offload)
    elif model.supports_gradient_checkpointing:
        disable = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
        disable()


def _names(args: Any) -> list[str]:
    """What of a split these arguments have, under each name of the installed library."""
    return [str(name) for key in OURS for name in (key, twin(key)) if name and hasattr(args, name)]
