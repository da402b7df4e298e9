"""Checks of an adapter that the run goes on with (model.adapter)."""

from collections.abc import Iterator

from tuitune.preflight.adapter.embeddings import INPUT, OUTPUT
from tuitune.preflight.context import Context
from tuitune.preflight.finding import Found
from tuitune.preflight.model_files import AdapterFiles, Tensor
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

PREFIX = "base_model.model."
COPIES = (
    "-unsloth",
    "-bnb-4bit",
    "-4bit",
    "-8bit",
    "-awq",
    "-gptq",
    "-int4",
    "-int8",
    "-hf",
    "-fp8",
    "-bf16",
)  # the same weights, packed differently


@check("PEFT08", "error", "an adapter of another model", Stage.HEADERS)
def adapter_of_another_model(context: Context) -> Iterator[Found]:
    """model.adapter was trained on a model of other shapes, or with another vocabulary: loading ends with "size mismatch". Of shapes that
    fit but another name in its adapter_config.json it loads, and continues from what it learnt for other weights.

    Rule: every lora_A, lora_B and saved tensor is compared with the base's tensor of that name.
    Do: name the model that the adapter was trained on.
    Known from: peft ("size mismatch for … lm_head.modules_to_save"), adapter_config.json (base_model_name_or_path).
    """
    adapter, base = context.adapter, context.model
    if not base.tensors or base.config.get("quantization_config"):
        return  # packed weights have other shapes
    wrong, strange = [], []
    for tensor in adapter.tensors.values():
        module, part = _module(tensor)
        weight = base.tensors.get(f"{module}.weight") or _tied(base.tensors, module)
        if weight is None:
            strange.append(module)
        elif not _fits(tensor, part, weight) and not _grown(adapter, tensor, part, weight):
            wrong.append((tensor, weight))
    named = printable(str(context.recipe.model["name_or_path"]))
    where = context.at("model", "adapter")
    if wrong:
        tensor, weight = wrong[0]
        yield Found(
            f"the adapter does not fit {named}: {_module(tensor)[0]} has {list(tensor.shape)} in the adapter and {list(weight.shape)} in "
            f"the model ({len(wrong)} tensors differ), so loading it fails. Name the model it was trained on",
            where,
            {
                "adapter": str(adapter.folder),
                "differ": len(wrong),
                "tensor": tensor.name,
                "shape": list(tensor.shape),
                "base": list(weight.shape),
            },
        )
    elif strange and len(strange) == len(adapter.tensors):
        yield Found(
            f"no module of the adapter exists in {named} (it has {printable(strange[0])}): nothing of it would be loaded. Name the model "
            "it was trained on",
            where,
            {"adapter": str(adapter.folder), "modules": sorted(set(strange))[:5]},
        )
    else:
        yield from _another_name(context)


def _module(tensor: Tensor) -> tuple[str, str]:
    """The base's module that a tensor of an adapter belongs to, and which part of the adapter it is (lora_A, lora_B, or "" for a copy)."""
    name = tensor.name.removeprefix(PREFIX)
    for part in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"):
        if f".{part}" in name:
            return name.partition(f".{part}")[0], part
    return name.replace(".modules_to_save", "").removesuffix(".weight").removesuffix(".bias"), ""


def _tied(tensors: dict[str, Tensor], module: str) -> Tensor | None:
    """The embedding, for a head that has no tensor of its own."""
    if module.rpartition(".")[2] not in OUTPUT:
        return None
    return next((tensor for name, tensor in tensors.items() if name.removesuffix(".weight").rpartition(".")[2] in INPUT), None)


def _grown(adapter: AdapterFiles, tensor: Tensor, part: str, weight: Tensor) -> bool:
    """Whether it is an embedding with rows for new tokens of the adapter's own tokenizer: the trainer gives the model as many."""
    last, same = adapter.last_added_id, tensor.shape[1:] == weight.shape[1:]
    return part == "" and same and last is not None and weight.shape[0] <= last < tensor.shape[0]


def _fits(tensor: Tensor, part: str, weight: Tensor) -> bool:
    if len(weight.shape) != 2:
        return True
    if part in ("lora_A", "lora_B"):
        return tensor.shape[1 if part == "lora_A" else 0] in weight.shape  # Conv1D (GPT-2) keeps its weights the other way round
    if part in ("lora_embedding_A", "lora_embedding_B"):
        return tensor.shape[1 if part == "lora_embedding_A" else 0] in weight.shape
    return part != "" or len(tensor.shape) != 2 or tensor.shape == weight.shape


def _another_name(context: Context) -> Iterator[Found]:
    """Names are compared only where both are Hub ids: a folder may be a copy of anything."""
    mine, its = str(context.recipe.model["name_or_path"]), context.adapter.config.get("base_model_name_or_path")
    if not isinstance(its, str) or its.count("/") != 1 or mine.count("/") != 1 or _plain(mine) == _plain(its):
        return
    yield Found(
        f"the adapter was trained on {printable(its)}, the recipe puts it on {printable(mine)}: the shapes fit, the weights are others. "
        "Name the model it was trained on",
        context.at("model", "adapter"),
        {"adapter": str(context.adapter.folder), "trained_on": its, "model": mine},
        severity="warning",
    )


def _plain(name: str) -> str:
    """A Hub id's last part without what only says how the weights are packed."""
    text = name.rpartition("/")[2].lower().replace("_", "-")
    for _ in COPIES:
        for ending in COPIES:
            text = text.removesuffix(ending)
    return text.removeprefix("meta-")
