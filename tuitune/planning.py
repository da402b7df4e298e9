"""`tuitune plan`: from a recipe and a card to the memory plan's records. Reads config.json and safetensors headers; imports no torch."""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tuitune.dataset.lengths import Lengths
from tuitune.dataset.looked_at import known_lengths
from tuitune.errors import NotHere, UserError
from tuitune.memory.allocator import expandable
from tuitune.memory.families import read_shape
from tuitune.memory.measured import ways
from tuitune.memory.settings import Reference, Settings, Weights, together
from tuitune.memory.shape import NoFormula, Shape
from tuitune.memory.unknown import Count, counted_shape
from tuitune.preflight.cards import CPU, Card
from tuitune.preflight.model_files import AdapterFiles, ModelFiles, locate_model
from tuitune.recipe.aliases import canonical_name
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.recipe import Recipe, load_recipe
from tuitune.recipe.schema import Schema, load_schema
from tuitune.recipe.strategy import processes_of, strategy_of
from tuitune.recipe.tasks import PROMPTED
from tuitune.text import printable
from tuitune.trainer.box import (
    Box,
    FillIn,
    keeps_apart,
    leaves_padding,
    model_dtype,
    training_fill_ins,
    why_inputs_are_cast,
    why_not_joined,
)
from tuitune.trainer.kernel_choice import LIGER, LIGER_FAMILIES, LIGER_TASKS, why_no_liger
from tuitune.update_split import settle, splits

# Keys that change the memory and are not counted yet: a plan that ignored them would be a wrong one.
UNPLANNED = {
    "peft": (
        *("use_dora", "modules_to_save", "target_parameters", "rank_pattern", "layers_to_transform", "exclude_modules"),
        *("trainable_token_indices", "layer_replication", "lora_bias"),
    ),
    "quantization": ("load_in_8bit", "llm_int8_skip_modules", "bnb_4bit_quant_storage"),
    "training": ("activation_offloading", "torch_compile", "auto_find_batch_size", "neftune_noise_alpha"),
    "tokenizer": ("add_special_tokens",),
}
# Tasks whose memory is decided by what no plan counts yet.
UNCOUNTED = {
    **dict.fromkeys(PROMPTED, "the cache of the answers that are written while it trains, nor their logits"),
    **dict.fromkeys(("orpo", "cpo"), "the logits of all positions, which its loss keeps in memory as a whole"),
}
TRY = "train a few steps and look at the run's peak"


@dataclass(frozen=True)
class Planned:
    """What a recipe comes to: `length_from` says where the length is from, "data" (then `lengths` are the data's) or "max_length" (then
    `length_why` says why not from the data). `card` None: no GPU here and none named. `steps`: of the whole run, None when nobody knows."""

    file: Path
    shape: Shape
    settings: Settings
    length_from: str
    card: Card | None
    lengths: Lengths | None = None
    length_why: str = ""
    steps: int | None = None

    @property
    def mean(self) -> float | None:
        """Tokens of a sequence of the data on average; None when they have not been counted."""
        return self.lengths.tokens / self.lengths.sequences if self.lengths and self.lengths.sequences else None


def read_recipe(path: Path, card: Card | None, count: Count | None = None) -> Planned:
    """A recipe's model and settings, with what tuitune fills in on `card` (None or the CPU: as on a card with bfloat16). `count`: asks the
    analyst about a model of a family without formulas, which can take a minute; without, only what was counted before is known.

    UserError when the recipe is not valid, its model is not here, or it asks for something that the plan does not count yet.
    """
    schema = load_schema()
    return plan_recipe(settled(load_recipe(path, schema=schema), card)[0], schema, card, count)


def settled(recipe: Recipe, card: Card | None) -> tuple[Recipe, dict[str, FillIn]]:
    """The recipe with what `launch.rows_per_update` leaves to tuitune, chosen for this card, and the reasons by key. UserError as above."""
    return settle(recipe, card, lambda whole: plan_recipe(whole, load_schema(), card))


def splits_of(recipe: Recipe, card: Card | None) -> list[dict[str, FillIn]]:
    """What `settled` chooses from for this card, its choice first (tuitune.update_split.splits). UserError as above."""
    return splits(recipe, card, lambda whole: plan_recipe(whole, load_schema(), card))


def plan_recipe(recipe: Recipe, schema: Schema, card: Card | None, count: Count | None = None) -> Planned:
    """read_recipe for a recipe that is loaded already."""
    if wants_cpu(recipe.launch, recipe.training):
        raise UserError(
            f"{printable(str(recipe.file))} trains on the CPU, and the plan is about GPU memory; remove launch.gpus and use_cpu to plan it"
        )
    _refuse_unplanned(recipe)
    usable = None if card is None or not card.gpu else card
    files = _model_files(recipe)
    lengths, why = known_lengths(recipe)
    settings = read_settings(recipe, schema, usable, lengths)
    shape = _with_all_weights(_shape(files, settings, recipe, count), files)
    return Planned(
        recipe.file, shape, settings, "data" if lengths else "max_length", usable, lengths, why, _steps(recipe, schema, settings, lengths)
    )


def _shape(files: ModelFiles, settings: Settings, recipe: Recipe, count: Count | None) -> Shape:
    """By the family's formula; of a family without one from a model that was counted."""
    try:
        return read_shape(files.config)
    except NoFormula as error:
        shape = counted_shape(files.folder, files.config, ways(settings, recipe.launch.get("adapter_dtype")), count)
        if shape is None:
            file = printable(str(recipe.file))
            raise UserError(
                f"{error}, and it has not been counted yet on a model without memory; do it once: tuitune plan {file}"
            ) from None
        return shape


def read_settings(recipe: Recipe, schema: Schema, card: Card | None, lengths: Lengths | None = None) -> Settings:
    """What of a recipe decides its memory: written, else as the trainer fills it in on this card, else the library's default. `lengths`: of
    its data, where they are known."""
    box = Box(True, (card or CPU).name, (card and card.capability) or (8, 0))
    training = _training(recipe, schema, box)
    lora = _lora(recipe)
    adapts = recipe.peft is not None or bool(recipe.model.get("adapter"))
    weights = _weights(recipe, box, full=not adapts)
    batch = int(training["per_device_train_batch_size"])
    joined = leaves_padding(recipe.training, recipe.model) and not why_not_joined(recipe.task, recipe.training, _config(recipe), box)
    packed = recipe.task == "sft" and (  # DPO's padding_free is switched off in TRL
        joined or bool(training.get("padding_free")) or (bool(training.get("packing")) and training.get("packing_strategy") != "wrapped")
    )
    amp, dtype = bool(training.get("bf16") or training.get("fp16")), recipe.launch.get("adapter_dtype")
    settings = Settings(
        length=_length(recipe, training, lengths),
        batch=batch,
        accumulation=int(training["gradient_accumulation_steps"]),
        task=recipe.task,
        lora=adapts,
        weights=weights,
        amp=amp,
        rank=int(lora.get("r") or 8),
        targets=_targets(lora.get("target_modules")),
        dropout=float(lora.get("lora_dropout") or 0.0),
        adapter_bytes=_adapter_bytes(recipe, quantised=weights.startswith("nf4")),
        input_casts=bool(why_inputs_are_cast(recipe.task, dtype, amp=amp)),
        optimizer=str(training["optim"]),
        checkpoint_every=_checkpoint_every(training),
        packed=packed,
        padded=not packed and not training.get("packing") and (batch > 1 or recipe.task in ("dpo", "reward")),
        attention=_attention(recipe, box),
        loss=_loss(recipe, training),
        reference=_reference(recipe, training, adapts),
        eval_batch=int(training["per_device_eval_batch_size"])
        if training.get("eval_strategy", "no") != "no" and recipe.dataset["eval"]
        else 0,
        expandable=expandable(os.environ),
        gpus=processes_of(recipe.launch),
        spread=strategy_of(recipe.launch) == "fsdp",
    )
    settings = replace(settings, liger=_liger(recipe, settings, box))
    return settings if lengths is None else _with_lengths(settings, recipe, training, lengths)


def _training(recipe: Recipe, schema: Schema, box: Box) -> dict[str, Any]:
    """All of the training section, canonically named: as written, else filled in, else the library's default."""
    written = {canonical_name(name): value for name, value in recipe.training.items() if value != "auto"}
    filled = {canonical_name(name): fill.value for name, fill in training_fill_ins(written, box, Path()).items()}
    return {name: spec.default for name, spec in schema.training_fields(recipe.task).items()} | filled | written


def _steps(recipe: Recipe, schema: Schema, settings: Settings, lengths: Lengths | None) -> int | None:
    """Optimizer steps of the whole run, as transformers' Trainer counts them; None without the data's lengths."""
    training = _training(recipe, schema, Box(True, CPU.name, (8, 0)))
    most, epochs = training.get("max_steps"), training.get("num_train_epochs")
    if isinstance(most, int) and most > 0:
        return most
    if lengths is None or not isinstance(epochs, int | float):
        return None
    batches = lengths.sequences // settings.batch if training.get("dataloader_drop_last") else -(-lengths.sequences // settings.batch)
    batches = -(-batches // settings.gpus)
    return math.ceil(epochs * max(-(-batches // settings.accumulation), 1))


def _loss(recipe: Recipe, training: dict[str, Any]) -> Literal["fused", "smoothed", "none"]:
    if recipe.task == "reward":
        return "none"
    return "smoothed" if recipe.task == "sft" and training.get("label_smoothing_factor") else "fused"


def _refuse_unplanned(recipe: Recipe) -> None:
    if recipe.task in UNCOUNTED:
        place = f"{printable(str(recipe.file))}:{recipe.line('task')}"
        raise UserError(f"{place}: no memory plan for task {recipe.task}: it does not count {UNCOUNTED[recipe.task]}; {TRY}")
    if strategy_of(recipe.launch) == "deepspeed":
        place = f"{printable(str(recipe.file))}:{recipe.line('launch', 'strategy')}"
        raise UserError(f"{place}: no memory plan with launch.strategy deepspeed yet; plan with fsdp, which spreads the same")
    for section, names in UNPLANNED.items():
        values: dict[str, Any] = getattr(recipe, section) or {}
        for name in names:
            as_many_bytes = name == "bnb_4bit_quant_storage" and strategy_of(recipe.launch) == "fsdp"
            left_to_tuitune = values.get(name) == "auto"  # layers that are compiled then are planned as others: they keep no more
            if values.get(name) and not as_many_bytes and not left_to_tuitune:
                place = f"{printable(str(recipe.file))}:{recipe.line(section, name)}"
                raise UserError(f"{place}: no memory plan with {section}.{name} yet; plan without it, or {TRY}")
    _refuse_uncounted_liger(recipe)
    if (recipe.quantization or {}).get("load_in_4bit") and recipe.model.get("dtype") == "float32":
        raise UserError(f"{printable(str(recipe.file))}: no memory plan yet for 4 bits with model.dtype float32; plan with bfloat16")
    kwargs = next((value for key, value in recipe.training.items() if canonical_name(key) == "activation_checkpointing_kwargs"), None) or {}
    for name in ("offload", "use_reentrant", "selective"):
        if kwargs.get(name):
            raise UserError(f"{printable(str(recipe.file))}: no memory plan with {name} checkpointing yet; plan without it")
    if recipe.task == "dpo" and "every_n_layers" in kwargs:
        raise UserError(f"{printable(str(recipe.file))}: DPOTrainer cannot checkpoint every n-th layer only; remove every_n_layers")


def _model_files(recipe: Recipe) -> ModelFiles:
    folder = locate_model(recipe.model)
    if folder is None:
        name = printable(str(recipe.model["name_or_path"]))
        raise UserError(f"{name} is not on this box, so its sizes are unknown; fetch them: hf download {name} config.json")
    return ModelFiles(folder)


def _with_all_weights(shape: Shape, files: ModelFiles) -> Shape:
    """The shape with what its files hold beyond the language model that config.json describes (a vision tower).

    Weights that are not here yet, or are in parts, leave the shape as it is.
    """
    try:
        held = sum(_count(tensor.shape) for tensor in files.tensors.values() if not (shape.tied and tensor.name.endswith("lm_head.weight")))
    except NotHere:
        return shape
    return replace(shape, other=shape.other + held - shape.parameters) if held > shape.parameters else shape


def _count(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count


def _length(recipe: Recipe, training: dict[str, Any], lengths: Lengths | None = None) -> int:
    """Tokens of the longest row, padded to what the collator pads to."""
    length = training.get("max_length") if lengths is None else lengths.longest
    if not isinstance(length, int) or length < 1:
        raise UserError(
            f"{printable(str(recipe.file))}: training.max_length says nothing, so rows may have any length; set it to plan memory, or let "
            "`tuitune check` look at the data"
        )
    multiple = training.get("pad_to_multiple_of")
    return -(-length // multiple) * multiple if isinstance(multiple, int) and multiple > 0 else length


def _with_lengths(settings: Settings, recipe: Recipe, training: dict[str, Any], lengths: Lengths) -> Settings:
    """The settings for the longest micro-batch and evaluation batch of the data itself, with the share of it that is in the loss."""
    known = replace(settings, sums=(settings.length, *lengths.sums[1:]))  # the longest as it is padded
    each = settings.rows_each * settings.length
    scored = max(together(lengths.scored, settings.batch) / known.tokens, lengths.scored[0] / each)
    return replace(known, scored=min(scored, 1.0), eval_length=_eval_length(recipe, training, lengths) if settings.eval_batch else 0)


def _eval_length(recipe: Recipe, training: dict[str, Any], lengths: Lengths) -> int:
    packing = training.get("eval_packing")
    packed = training.get("packing") if packing is None else packing
    if lengths.evaluation is None or packed:
        if training.get("max_length") is None:
            raise UserError(
                f"{printable(str(recipe.file))}: nobody knows how long the rows of dataset.eval are, and training.max_length says nothing; "
                "set it, or take fewer evaluation rows (dataset.eval, max_rows) and let `tuitune check` look at them"
            )
        return _length(recipe, training)
    return _length(recipe, training, replace(lengths, sums=(lengths.evaluation,)))


def _lora(recipe: Recipe) -> dict[str, Any]:
    """LoraConfig's values: of `peft:`, or of the adapter that training goes on with."""
    if recipe.peft is not None:
        return recipe.peft
    named = recipe.model.get("adapter")
    if not named:
        return {}
    folder = locate_model({"name_or_path": named})
    if folder is None:
        raise UserError(f"the adapter {printable(str(named))} is not on this box; fetch it, or name the `adapter` folder of a run")
    return AdapterFiles(folder).config


def _targets(wanted: Any) -> str | tuple[str, ...] | None:
    """LoraConfig.target_modules as a hashable value."""
    if wanted is None or isinstance(wanted, str):
        return wanted.lower() if isinstance(wanted, str) and wanted.lower() == "all-linear" else wanted
    return tuple(str(name) for name in wanted)


def _weights(recipe: Recipe, box: Box, full: bool) -> Weights:
    quantization = recipe.quantization or {}
    if quantization.get("load_in_4bit"):
        return "nf4 double" if quantization.get("bnb_4bit_use_double_quant") else "nf4"
    fill = model_dtype(recipe.model.get("dtype"), box, full)
    dtype = fill.value if fill else recipe.model["dtype"]
    if dtype == "float32":
        return "float32"
    return "float16" if dtype == "float16" else "bfloat16"


def _adapter_bytes(recipe: Recipe, quantised: bool) -> int:
    """`launch.adapter_dtype`, float32 unless it says otherwise; "trl": bfloat16 on a 4-bit base."""
    wanted = recipe.launch.get("adapter_dtype")
    return 2 if wanted == "bfloat16" or (wanted == "trl" and quantised) else 4


def _checkpoint_every(training: dict[str, Any]) -> int:
    if not training.get("activation_checkpointing"):
        return 0
    return int((training.get("activation_checkpointing_kwargs") or {}).get("every_n_layers") or 1)


def _config(recipe: Recipe) -> dict[str, Any]:
    """The model's config.json; {} while it is not on this box."""
    folder = locate_model(recipe.model)
    return ModelFiles(folder).config if folder else {}


def _refuse_uncounted_liger(recipe: Recipe) -> None:
    """`use_liger_kernel: true` where nobody has counted what its kernels keep, or with a task whose loss they would replace."""
    family = _config(recipe).get("model_type")
    if recipe.training.get(LIGER) is not True or family is None or (recipe.task in LIGER_TASKS and family in LIGER_FAMILIES):
        return
    place = f"{printable(str(recipe.file))}:{recipe.line('training', LIGER)}"
    raise UserError(f"{place}: no memory plan with {LIGER} for {recipe.task} of a {family} model yet; plan without it, or {TRY}")


def _liger(recipe: Recipe, settings: Settings, box: Box) -> bool:
    """Whether Liger's kernels are taken: as written, else as the trainer chooses on this box (installed here: installed there)."""
    written = recipe.training.get(LIGER)
    if written != "auto":
        return bool(written)
    dtype = "bfloat16" if settings.quantised else settings.weights
    return not why_no_liger(recipe.task, _config(recipe).get("model_type"), dtype, box, settings.reference == "model")


def _attention(recipe: Recipe, box: Box) -> Literal["sdpa", "eager", "flash"]:
    """What the recipe names; else tuitune's own where that is taken, or sdpa, which transformers takes for every family that has a plan."""
    name = recipe.model.get("attn_implementation")
    if name in (None, "auto", "sdpa"):
        return "flash" if keeps_apart(recipe.task, recipe.training, recipe.model, _config(recipe), box) else "sdpa"
    return "eager" if name == "eager" else "flash"


def _reference(recipe: Recipe, training: dict[str, Any], adapts: bool) -> Reference:
    """The reference model of DPO and KTO, as TRL makes it."""
    if recipe.task not in ("dpo", "kto") or training.get("precompute_ref_log_probs"):
        return "none"
    if not adapts:
        return "model"
    return "adapter" if recipe.model.get("adapter") else "shared"
