"""Checks of `quantization:` (section G of the catalogue)."""

from collections.abc import Iterator
from typing import Any

from tuitune.preflight.cards import GIB
from tuitune.preflight.context import Context
from tuitune.preflight.finding import Change, Fix, Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.sizes import count, gib, is_linear, quantised_bytes
from tuitune.text import printable

SMALL_LR = 1e-5  # below it bfloat16 rounds most of AdamW's updates away (training-facts.md 1.3: 0.39 of the path is left at 1e-5)


def quantisation(context: Context) -> dict[str, Any]:
    """Section `quantization:`. NotHere when nothing is quantised."""
    if not context.quantised:
        raise NotHere("the recipe quantises nothing")
    return dict(context.recipe.quantization or {})


def compute_dtype(context: Context) -> str:
    """The type in which the card multiplies fastest without overflow or emulation."""
    if not context.card.gpu:
        return "float32"
    return "float16" if context.card.bfloat16 is False else "bfloat16"


@check("QNT01", "warning", "4 bits with BitsAndBytesConfig's defaults", Stage.HEADERS)
def defaults(context: Context) -> Iterator[Found]:
    """load_in_4bit alone means fp4 and products in float32: fp4 loses more of trained weights than nf4, and float32 is much slower.

    Rule: quant type fp4, or on a GPU a compute dtype of float32, written or by default.
    Do: nf4, and bfloat16 (float16 below compute capability 8.0).
    Known from: transformers.BitsAndBytesConfig, the QLoRA paper.
    """
    section = quantisation(context)
    if not section.get("load_in_4bit"):
        return
    kind = section.get("bnb_4bit_quant_type") or "fp4"
    computed = str(section.get("bnb_4bit_compute_dtype") or "float32").removeprefix("torch.")
    wanted, changes, faults = compute_dtype(context), [], []
    if kind == "fp4":
        faults.append("fp4, which loses more of trained weights than nf4")
        changes.append(Change(("quantization", "bnb_4bit_quant_type"), "nf4"))
    if computed in ("float32", "fp32") and context.card.gpu:
        faults.append(f"products in float32, which are several times slower than {wanted}")
        changes.append(Change(("quantization", "bnb_4bit_compute_dtype"), wanted))
    if faults:
        yield Found(
            f"the base is loaded in {', and with '.join(faults)}; name both in quantization",
            context.at("quantization"),
            {"bnb_4bit_quant_type": kind, "bnb_4bit_compute_dtype": computed, "card": context.card.name},
            Fix(
                f"Write {' and '.join(f'`{change.path[-1]}: {change.value}`' for change in changes)}",
                automatic=True,
                changes=tuple(changes),
            ),
        )


@check("QNT02", "warning", "bfloat16 on a card without it", Stage.HEADERS)
def bfloat16_by_emulation(context: Context) -> Iterator[Found]:
    """The card multiplies no bfloat16 (compute capability below 8.0: T4, V100, RTX 20xx). torch still says it can, by emulation, so nothing
    is refused and every product is many times slower.

    Do: float16.
    Known from: qlora#71; torch.cuda.is_bf16_supported(including_emulation=False).
    """
    computed = str(quantisation(context).get("bnb_4bit_compute_dtype")).removeprefix("torch.")
    if context.card.bfloat16 is not False or not context.card.gpu or computed not in ("bfloat16", "bf16"):
        return
    capability = ".".join(map(str, context.card.capability or ()))
    yield Found(
        f"bnb_4bit_compute_dtype bfloat16, and {printable(context.card.name)} (compute capability {capability}) multiplies it only by "
        "emulation, many times slower. Write float16",
        context.at("quantization", "bnb_4bit_compute_dtype"),
        {"bnb_4bit_compute_dtype": computed, "card": context.card.name, "capability": context.card.capability},
        Fix(
            "Write `bnb_4bit_compute_dtype: float16`",
            automatic=True,
            changes=(Change(("quantization", "bnb_4bit_compute_dtype"), "float16"),),
        ),
    )


@check("QNT03", "info", "adapter weights in bfloat16", Stage.HEADERS)
def adapters_in_bfloat16(context: Context) -> Iterator[Found]:
    """Adapters in bfloat16 lose small updates to rounding: at a learning rate of 1e-5 AdamW covers 0.4 of the way that float32 does.
    tuitune keeps them in float32 unless launch.adapter_dtype says otherwise (trl: TRL's own cast of quantised models' adapters).

    Do: launch.adapter_dtype: float32.
    Known from: trl sft_trainer; measured in training-facts.md 1.3.
    """
    written = context.recipe.launch.get("adapter_dtype")
    rate = context.setting("learning_rate")
    if context.full or not (written == "bfloat16" or (written == "trl" and context.quantised)):
        return
    if isinstance(rate, int | float) and rate <= SMALL_LR:
        yield Found(
            f"launch.adapter_dtype {written} keeps the adapter in bfloat16, and at a learning rate of {rate:g} most updates are smaller "
            "than it can hold: the adapter hardly moves. Write float32",
            context.at("launch", "adapter_dtype"),
            {"adapter_dtype": written, "learning_rate": rate},
            Fix("Write `adapter_dtype: float32`", changes=(Change(("launch", "adapter_dtype"), "float32"),)),
        )


@check("QNT04", "warning", "float32 beside 4 bits", Stage.HEADERS)
def float32_beside(context: Context) -> Iterator[Found]:
    """What is not quantised (embeddings, head, norms) is held in float32, and with it everything that flows through the layers: what
    prepare_model_for_kbit_training does, which TRL and tuitune leave out. 8B at 4 rows of 2048: 14.9 instead of 9.6 GiB.

    Rule: a quantised base on a GPU with model.dtype: float32.
    Do: bfloat16 (float16 below compute capability 8.0), or leave it out.
    Known from: training-facts.md 0.2; peft.prepare_model_for_kbit_training.
    """
    quantisation(context)
    if context.recipe.model.get("dtype") != "float32" or not context.card.gpu:
        return
    extra = sum(count(tensor) * 2 for tensor in context.model.tensors.values() if not is_linear(tensor))
    wanted = compute_dtype(context)
    yield Found(
        f"model.dtype float32 holds what is not quantised in twice the bytes ({gib(extra)} more), and all activations as well: slower, and "
        f"half as many rows fit. Write {wanted}",
        context.at("model", "dtype"),
        {"more_bytes": extra, "dtype": "float32"},
        Fix(f"Write `dtype: {wanted}`", changes=(Change(("model", "dtype"), wanted),)),
    )


@check("QNT05", "info", "an adapter for a base that exists in 4 or 8 bits only", Stage.HEADERS)
def merge_into_quantised(context: Context) -> Iterator[Found]:
    """The checkpoint itself is quantised. The adapter trains well on it, but merging into such weights rounds what was learnt (weights 10 %
    off, logits 20 times as far off as merging into 16 bits): to merge, the 16-bit model is needed.

    Do: keep the adapter separate, or merge it into the 16-bit model that the quantised one was made of.
    Known from: peft (merge_and_unload warns of rounding); measured in training-facts.md 1.1.
    """
    packed = context.model.config.get("quantization_config")
    if context.full or not isinstance(packed, dict):
        return
    yield Found(
        f"{printable(str(context.recipe.model['name_or_path']))} is quantised as it is "
        f"({printable(str(packed.get('quant_method', 'unknown')))}): the adapter can be trained and used on it, "
        "but merging into it rounds what was learnt. Merge into the 16-bit model instead",
        context.at("model", "name_or_path"),
        {"quantization_config": packed},
    )


@check("QNT06", "error", "quantised weights that do not fit on the card", Stage.HEADERS)
def offload(context: Context) -> Iterator[Found]:
    """bitsandbytes cannot train a model of which parts lie on the CPU or on disk: what the card does not hold cannot be loaded at all.

    Rule: the weights alone, in 4 or 8 bits with the rest in 16, are larger than the card; or llm_int8_enable_fp32_cpu_offload is set.
    Do: a card with more memory, 4 instead of 8 bits, or a smaller model.
    Known from: transformers (bitsandbytes refuses a device_map with cpu or disk).
    """
    section = quantisation(context)
    if section.get("llm_int8_enable_fp32_cpu_offload"):
        yield Found(
            "llm_int8_enable_fp32_cpu_offload has no effect: a model of which parts lie on the CPU cannot be trained, so tuitune loads all "
            "of it onto the GPU. Take it out",
            context.at("quantization", "llm_int8_enable_fp32_cpu_offload"),
            {"llm_int8_enable_fp32_cpu_offload": True},
            Fix(
                "Remove `llm_int8_enable_fp32_cpu_offload`",
                changes=(Change(("quantization", "llm_int8_enable_fp32_cpu_offload"), remove=True),),
            ),
            "warning",
        )
    memory = context.card.memory
    if memory is None or not context.card.gpu or context.model.config.get("quantization_config"):
        return
    bits = 4 if section.get("load_in_4bit") else 8
    needed = quantised_bytes(context.model.tensors.values(), bits, 4 if context.recipe.model.get("dtype") == "float32" else 2)
    if needed > memory:
        yield Found(
            f"the weights alone take {gib(needed)} in {bits} bits, and {printable(context.card.name)} has {memory / GIB:.0f} GiB; parts on "
            f"the CPU cannot be trained. Take {'4 bits, ' if bits == 8 else ''}a larger card or a smaller model",
            context.at("quantization"),
            {"bytes": needed, "memory": memory, "bits": bits},
        )
