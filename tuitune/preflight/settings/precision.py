"""Checks of number formats and of the attention implementation, for the card that the run is meant for."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tuitune.preflight.cards import GIB
from tuitune.preflight.context import Context, DocumentContext
from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.sizes import count, gib
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface", "flash_attention_4": "flash_attn.cute"}


def uses_float16(context: Context) -> bool:
    """Whether products run in float16 with loss scaling: written, or what tuitune fills in on a GPU without bfloat16."""
    if not context.card.gpu or context.training.get("bf16") is True:
        return False
    return context.training.get("fp16") is True or context.card.bfloat16 is False


@check("TRN04", "error", "a precision that fails on this card", Stage.RECIPE, Stage.HEADERS)
def precision(context: DocumentContext | Context) -> Iterator[Found]:
    """bf16 and fp16 exclude each other; bf16 needs compute capability 8.0; with fp16 the trained weights must be in float32, or the first
    step ends with "Attempting to unscale FP16 gradients". What the recipe leaves out tuitune chooses for the card.

    Rule: as said; trained weights are all of them, or the adapter's (launch.adapter_dtype).
    Do: leave bf16 and fp16 out; train float32 weights.
    Known from: axolotl#1031, transformers#30559, trl#4901.
    """
    if isinstance(context, DocumentContext):
        yield from context.told(("RCP014",), ("training", "fp16"), ("training", "bf16"))
        return
    card = context.card
    if context.training.get("bf16") is True and card.gpu and card.bfloat16 is False:
        capability = ".".join(map(str, card.capability or ()))
        yield Found(
            f"training.bf16, and {printable(card.name)} (compute capability {capability}) has no bfloat16: the run is refused, or every "
            "product is emulated. Write fp16",
            context.at("training", "bf16"),
            {"bf16": True, "card": card.name, "capability": card.capability},
            Fix("Write `fp16: true` instead of `bf16`", automatic=True, changes=_half(context)),
        )
    if not card.gpu:
        return
    adapter = context.recipe.launch.get("adapter_dtype")
    if context.full and context.recipe.model.get("dtype") == "float16":
        yield Found(
            "model.dtype float16 with all weights trained: float16 gradients cannot be unscaled, and AdamW's smallest numbers are zero in "
            "it. Write float32; products still run in 16 bits",
            context.at("model", "dtype"),
            {"dtype": "float16", "card": card.name},
            Fix("Write `dtype: float32`", changes=(Change(("model", "dtype"), "float32"),)),
        )
    elif not context.full and uses_float16(context) and (adapter == "bfloat16" or (adapter == "trl" and context.quantised)):
        yield Found(
            f"launch.adapter_dtype {adapter} with fp16: the gradient scaler takes no bfloat16 weights: the first step fails. Write float32",
            context.at("launch", "adapter_dtype"),
            {"adapter_dtype": adapter, "card": card.name},
            Fix("Write `adapter_dtype: float32`", changes=(Change(("launch", "adapter_dtype"), "float32"),)),
        )


def _half(context: Context) -> tuple[Change, ...]:
    return (Change(("training", "bf16"), remove=True), Change(("training", "fp16"), True))


@check("TRN13", "warning", "a frozen base in float32", Stage.HEADERS)
def full_precision(context: Context) -> Iterator[Found]:
    """The base is only read, and float32 takes twice the memory of bfloat16 for it without being better. tuitune loads it in 16 bits on a
    GPU when the recipe does not say otherwise; training of all weights wants float32.

    Rule: an adapter on a base with model.dtype: float32 on a GPU; a warning from 1 GiB on.
    Do: model.dtype: bfloat16 (float16 below compute capability 8.0).
    Known from: trl.trainer.utils.create_model_from_path (a model given by its name is loaded in float32).
    """
    if context.full or context.quantised or not context.card.gpu or context.recipe.model.get("dtype") != "float32":
        return
    more = sum(2 * count(tensor) for tensor in context.model.tensors.values())
    wanted = "float16" if context.card.bfloat16 is False else "bfloat16"
    yield Found(
        f"model.dtype float32 holds a base that is only read in twice the bytes: {gib(more)} more than {wanted}. Write {wanted}",
        context.at("model", "dtype"),
        {"more_bytes": more, "dtype": "float32"},
        Fix(f"Write `dtype: {wanted}`", changes=(Change(("model", "dtype"), wanted),)),
        None if more >= GIB else "info",
    )


@check("TRN16", "error", "an attention implementation that the model or the box does not have", Stage.MODEL)
def attention(context: "CheckContext") -> Iterator[Found]:
    """model.attn_implementation names one that the model's class refuses, whose package is not installed, or that needs a newer card: the
    model is not loaded.

    Do: leave it out: transformers takes sdpa where the class has it, else eager.
    Known from: transformers.PreTrainedModel._check_and_adjust_attn_implementation (gemma2 and bloom refuse sdpa in 5.23).
    """
    wanted = context.recipe.model.get("attn_implementation")
    if wanted in (None, "auto"):
        return
    where, fix = (
        context.at("model", "attn_implementation"),
        Fix("Write `auto`", changes=(Change(("model", "attn_implementation"), "auto"),)),
    )
    card = context.card
    evidence = {"attn_implementation": wanted, "card": card.name}
    if wanted in FLASH and (not card.gpu or (card.capability is not None and card.capability < (8, 0))):
        message = (
            f"{wanted} needs a GPU of compute capability 8.0 or newer, not {printable(card.name)}: the model is not loaded. Write auto"
        )
        yield Found(message, where, evidence, fix)
        return
    if wanted in FLASH and find_spec(FLASH[wanted].partition(".")[0]) is None:
        package = FLASH[wanted].partition(".")[0]
        message = f"{wanted} needs the package {package}, which is not installed here: the model is not loaded. Write auto"
        yield Found(message, where, evidence, fix, "info" if card.named else None)  # a named card is in another box
        return
    if refusal := context.attention_refusal:
        yield Found(f"the model refuses attn_implementation {printable(wanted)}: {refusal.rstrip('.')}. Write auto", where, evidence, fix)
