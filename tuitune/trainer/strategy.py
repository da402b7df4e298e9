"""FSDP2 and DeepSpeed as transformers and accelerate configure them: what goes into the arguments, and what is looked at afterwards.

Checkpoints of FSDP keep whole tensors, gathered by rank 0 (FULL_STATE_DICT): they are read with weights_only and resume
exactly; torch's sharded ones begin with a pickle that is loaded as it comes. Rank 0 needs the RAM for it.

Each process reads the model into RAM by itself (cpu_ram_efficient_loading off): with it the other ranks would build trainer, adapter and
proof on empty weights. 4-bit weights are made on each GPU whole and spread then.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.recipe.strategy import COMPUTE, gpus_of, strategy_of
from tuitune.trainer.box import DENSE, Box, FillIn

if TYPE_CHECKING:
    from tuitune.trainer.build import Built

FSDP2 = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "reshard_after_forward": True,
    "cpu_ram_efficient_loading": False,
    "state_dict_type": "FULL_STATE_DICT",
}


def strategy_fill_ins(recipe: Recipe, world: int) -> dict[str, FillIn]:
    """Arguments of the config class for `launch.strategy`; none where one process looks at the recipe alone (the analyst's)."""
    strategy = strategy_of(recipe.launch)
    if world < 2 or strategy == "ddp":
        return {}
    if strategy == "fsdp":
        why = "launch.strategy: fsdp"
        fills = {"fsdp": FillIn(True, why), "fsdp_config": FillIn(dict(FSDP2), f"{why}: whole tensors in checkpoints, one unit a layer")}
        if not adapts(recipe):
            each = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
            fills["accelerator_config"] = FillIn(each, "else every GPU would add up the whole model's gradients until the update")
        return fills
    if find_spec("deepspeed") is None:
        place = f"{recipe.file}:{recipe.line('launch', 'strategy')}"
        raise UserError(f"{place}: launch.strategy deepspeed needs a package that is not installed: pip install deepspeed; or take fsdp")
    stage = zero_stage(recipe)
    return {"deepspeed": FillIn(zero_config(stage), f"launch.strategy: deepspeed, ZeRO-{stage}")}


SEARCH = "ddp_find_unused_parameters"


def leave_search(built: "Built") -> None:
    """DDP does not search each pass for weights without a gradient, which transformers lets it do for every adapter: in a dense language
    model all of them take part. Experts and towers for pictures may not, so there the search stays; so does what the recipe says."""
    args, config = built.trainer.args, built.trainer.model.config
    if args.world_size < 2 or strategy_of(built.recipe.launch) != "ddp" or not adapts(built.recipe) or getattr(args, SEARCH) is not None:
        return
    if config.model_type not in DENSE:
        return
    setattr(args, SEARCH, False)
    built.filled["training", SEARCH] = FillIn(False, "every adapter of this model gets a gradient in every pass")


def zero_stage(recipe: Recipe) -> int:
    """2 for an adapter, whose base every GPU keeps; 3, weights spread as well, where all of them are trained."""
    return 2 if adapts(recipe) else 3


def adapts(recipe: Recipe) -> bool:
    """Whether an adapter is trained and not the model itself."""
    return recipe.peft is not None or bool(recipe.model.get("adapter"))


def zero_config(stage: int) -> dict[str, Any]:
    """DeepSpeed's configuration; "auto": transformers fills in what its arguments say."""
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": True, "contiguous_gradients": True, "reduce_bucket_size": "auto"}
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }


def settle_precision(config: Any) -> None:
    """FSDP computes in 16 bits with weights cast as they are gathered. accelerate would add gradients up in 16 bits and hand the loss on
    in them; they are added up in float32, as DDP does, and outputs keep the type they were made in."""
    arguments = getattr(config, "fsdp_plugin_args", None)
    if not arguments or not (config.bf16 or config.fp16):
        return
    import torch
    from torch.distributed.fsdp import MixedPrecisionPolicy

    computed = torch.bfloat16 if config.bf16 else torch.float16
    arguments["mixed_precision_policy"] = MixedPrecisionPolicy(param_dtype=computed, reduce_dtype=torch.float32)


def quantisation(recipe: Recipe) -> dict[str, FillIn]:
    """What fsdp needs of 4-bit weights and the recipe leaves out: stored as numbers that it can spread and gather without a cast."""
    written = recipe.quantization or {}
    if strategy_of(recipe.launch) != "fsdp" or not written.get("load_in_4bit"):
        return {}
    why = "fsdp spreads 4-bit weights only when they are stored as what it computes in"
    missing = [key for key in ("bnb_4bit_quant_storage", "bnb_4bit_compute_dtype") if written.get(key) is None]
    return {key: FillIn(COMPUTE, why) for key in missing}


def device_map(recipe: Recipe, box: Box, local: int) -> dict[str, Any]:
    """from_pretrained's argument: each process's GPU; none, so the RAM, on the CPU and where the model is spread from there."""
    if not box.cuda or (strategy_of(recipe.launch) != "ddp" and not recipe.quantization):
        return {}
    return {"device_map": {"": local}}


def verify_strategy(recipe: Recipe, trainer: Any) -> None:
    """That the built trainer does what the recipe says. UserError: accelerate leaves FSDP out on the CPU without a word."""
    strategy = strategy_of(recipe.launch)
    enabled = {"fsdp": trainer.is_fsdp_enabled, "deepspeed": trainer.is_deepspeed_enabled}.get(strategy, True)
    if not enabled:
        place = f"{recipe.file}:{recipe.line('launch', 'strategy')}"
        raise UserError(
            f"{place}: launch.strategy {strategy} needs a process on each of several GPUs, and this run has {trainer.args.world_size} on "
            f"{'the CPU' if trainer.args.use_cpu else 'GPU'}; set launch.gpus: {max(2, gpus_of(recipe.launch))}, or take strategy ddp"
        )
