"""Weight files and their headers against the config: EMB01 to EMB03, EMB07 to EMB10."""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

from tuitune.preflight.context import Context
from tuitune.preflight.finding import Change, Fix, Found, NotHere, Where
from tuitune.preflight.model_files import is_lfs_pointer
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

SHOWN = 10
TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}  # safetensors' names → torch's
BFLOAT16 = (8, 0)  # the compute capability from which on it is there in hardware


@check("EMB01", "error", "embedding rows and vocab_size differ", Stage.HEADERS)
def rows_against_config(context: Context) -> Iterator[Found]:
    """The embedding in the weights has another number of rows than config.json says: from_pretrained refuses to load the model.

    Do: copy config.json and the weights again from one and the same revision.
    Known from: transformers 5 (size mismatch, ignore_mismatched_sizes is False).
    """
    vocabulary = context.model.text_config.get("vocab_size")
    for tensor in (context.model.input_embedding, context.model.output_embedding):
        if tensor is not None and isinstance(vocabulary, int) and tensor.shape[0] != vocabulary:
            yield Found(
                f"{tensor.name} has {tensor.shape[0]} rows, config.json says vocab_size {vocabulary}: the model cannot be loaded. "
                "Copy config.json and the weights again, from one revision",
                Where(str(tensor.file), view="alignment"),
                {"tensor": tensor.name, "rows": tensor.shape[0], "vocab_size": vocabulary},
            )


@check("EMB02", "error", "the output head is missing", Stage.HEADERS)
def head_missing(context: Context) -> Iterator[Found]:
    """Input and output embedding are two by the config, and the weights have no head: transformers fills it with random numbers, says so in
    a report that nobody reads, and training starts from noise.

    Where config.json is silent the default of its class counts. Tied models have no head of their own, which is sound.
    Do: fetch the weights again; if the family ties its embeddings, set "tie_word_embeddings": true in config.json.
    Known from: transformers' load report (MISSING lm_head.weight).
    """
    model = context.model
    if context.recipe.task == "reward" or model.tied is not False:
        return
    if model.input_embedding is None or model.output_embedding is not None:
        return
    if any(name.startswith("lm_head.") or ".lm_head." in name for name in model.tensors):
        return  # stored in another form (quantised)
    if any(header.fault for header in model.headers) or len(model.headers) < len(model.weight_files):
        return  # EMB07 tells it
    yield Found(
        "the weights have no lm_head.weight and the config does not tie it to the input embedding: the head would be random, and training "
        'starts from noise. Fetch the weights again, or set "tie_word_embeddings": true in config.json if this family ties them',
        Where(str(model.folder / "config.json"), view="alignment"),
        {"tie_word_embeddings": model.config.get("tie_word_embeddings"), "model_type": model.config.get("model_type")},
    )


@check("EMB03", "info", "a tied model with a head of its own", Stage.WEIGHTS)
def tied_with_head(context: "CheckContext") -> Iterator[Found]:
    """The config ties input and output embedding, and the weights have both. Equal ones are tied as usual (information); where they differ
    transformers 5 does not tie them and only warns, while other programs take the input embedding for both: a warning.

    Do: if the two were trained apart (often a merged adapter), set "tie_word_embeddings": false in config.json.
    Known from: transformers#45127, #45156, peft#2777.
    """
    model = context.model
    one, other = model.input_embedding, model.output_embedding
    if not model.tied or one is None or other is None or one.shape != other.shape:
        return
    equal = context.same(one, other)
    told = (
        "which is the same, so they are tied; it only takes space"
        if equal
        else "and it differs from the input embedding, so this training does not tie them, while other programs do. Set "
        '"tie_word_embeddings": false in config.json if they were trained apart'
    )
    yield Found(
        f"the config ties the output head to the input embedding, and the weights have a {other.name} of its own, {told}",
        Where(str(other.file), view="alignment"),
        {"input": one.name, "output": other.name, "equal": equal},
        severity="info" if equal else "warning",
    )


@check("EMB07", "error", "a weight file is not whole", Stage.HEADERS)
def file_incomplete(context: Context) -> Iterator[Found]:
    """A safetensors file is cut off, damaged, a Git LFS pointer or missing, or the index names tensors that the files do not have.

    Only headers are read: the sizes in them are compared with the file's size.
    Do: download the file that is named again (`git lfs pull` for a pointer).
    Known from: safetensors ('incomplete metadata, file not fully covered'), interrupted downloads, clones without Git LFS.
    """
    model = context.model
    for name in ("tokenizer.json", "tokenizer.model"):
        if is_lfs_pointer(model.folder / name):
            yield _broken(context, name, "is a Git LFS pointer, not the file: run `git lfs pull`, or download it")
    for header in model.headers:
        if header.fault:
            yield _broken(context, header.file.name, header.fault)
    missing = [name for name in model.weight_files if not (model.folder / name).exists()]
    if missing and not model.in_hub_cache:
        if model.index is None:
            pickled = any(model.folder.glob("*.bin"))
            reason = "has only pickled weights (.bin), which are not loaded: convert them to safetensors" if pickled else "has no weights"
            yield _broken(
                context, "", f"{reason}, or take another copy of the model" if pickled else f"{reason}: download model.safetensors"
            )
        else:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            yield _broken(context, missing[0], f"is named in model.safetensors.index.json and missing{more}: download it", missing)
    if not missing and model.weight_files != ["model.safetensors"] and not any(header.fault for header in model.headers):
        yield from _against_index(context)


def _broken(context: Context, name: str, fault: str, files: "list[str] | None" = None) -> Found:
    place = context.model.folder / name
    return Found(
        f"{printable(name or str(place))} {fault}",
        Where(str(place), view="alignment"),
        {"file": str(place), "fault": fault, **({"files": files[:SHOWN]} if files else {})},
    )


def _against_index(context: Context) -> Iterator[Found]:
    model = context.model
    named: dict[str, str] = (model.index or {})["weight_map"]
    there = {name: tensor.file.name for name, tensor in model.tensors.items()}
    absent = sorted(name for name in named if there.get(name) != named[name])
    extra = sorted(set(there) - set(named))
    if absent:
        yield Found(
            f"model.safetensors.index.json places {len(absent)} tensors where the files do not have them (e.g. {printable(absent[0])} in "
            f"{printable(str(named[absent[0]]))}): index and files are of different revisions. Download both again",
            Where(str(model.folder / "model.safetensors.index.json"), view="alignment"),
            {"tensors": absent[:SHOWN], "count": len(absent)},
        )
    elif extra:
        yield Found(
            f"the weight files have {len(extra)} tensors that model.safetensors.index.json does not name (e.g. {printable(extra[0])}): "
            "index and files are of different revisions. Download both again",
            Where(str(model.folder / "model.safetensors.index.json"), view="alignment"),
            {"tensors": extra[:SHOWN], "count": len(extra)},
            severity="warning",
        )


@check("EMB08", "error", "weights and architecture do not fit", Stage.MODEL)
def weights_against_model(context: "CheckContext") -> Iterator[Found]:
    """The weight files lack tensors of the model, which would be random; hold some it has no place for, which are left out; or have other
    shapes, which stops the load. Found by from_pretrained itself on a model without numbers, so that tied, renamed and fused weights are
    judged as it does.

    Embeddings are EMB01's and EMB02's; quantised checkpoints are left to their own loader.
    Do: take config.json and weights from one revision of one model.
    Known from: transformers' load report.
    """
    model = context.model
    if model.config.get("quantization_config"):
        raise NotHere("the checkpoint is quantised; its own loader knows its tensors")
    if not model.tensors or any(header.fault for header in model.headers) or len(model.headers) < len(model.weight_files):
        raise NotHere("the weight files are not all here")
    told = context.load_report
    ends = {f"{name}.weight" for name in context.embedding_names if name}
    missing = [name for name in told.missing if name not in ends and not (context.recipe.task == "reward" and name.startswith("score"))]
    mismatched = [found for found in told.mismatched if found[0] not in ends]
    unexpected = [name for name in told.unexpected if not (context.recipe.task == "reward" and name.startswith("lm_head"))]
    where = Where(str(model.folder), view="alignment")
    remedy = "Take config.json and weights from one revision of one model"
    if missing:
        yield Found(
            f"{len(missing)} weights of the model are in no file (e.g. {printable(missing[0])}) and would be random. {remedy}",
            where,
            {"missing": missing[:SHOWN], "count": len(missing)},
        )
    if mismatched:
        name, found, wanted = mismatched[0]
        yield Found(
            f"{len(mismatched)} weights have another shape than config.json asks for (e.g. {printable(name)}: {found}, not {wanted}): the "
            f"model cannot be loaded. {remedy}",
            where,
            {"mismatched": [list(item) for item in mismatched[:SHOWN]], "count": len(mismatched)},
        )
    if unexpected:
        yield Found(
            f"{len(unexpected)} tensors of the weight files have no place in the model (e.g. {printable(unexpected[0])}) and are left out. "
            "Check that config.json describes this model",
            where,
            {"unexpected": unexpected[:SHOWN], "count": len(unexpected)},
            severity="warning",
        )


@check("EMB09", "warning", "the type of the weights", Stage.HEADERS)
def dtype(context: Context) -> Iterator[Found]:
    """Weights are asked for in another type than they are stored in, with a cost: float16 overflows where bfloat16 or float32 does not, and
    float32 for frozen weights that are stored in 16 bits takes twice the memory and gains nothing. A config.json that names float16 for
    bfloat16 weights misleads the programs that follow it.

    What model.dtype leaves out tuitune fills in for the card, so only what is written is judged.
    Do: set model.dtype: bfloat16 (`--fix` does), where the card has it.
    Known from: trl/trainer/utils.py create_model_from_path (float32); transformers' from_pretrained (config.dtype).
    """
    stored = _stored(context)
    asked, frozen = context.recipe.model.get("dtype"), bool(context.recipe.peft or context.recipe.model.get("adapter"))
    able = context.card.capability is not None and context.card.capability >= BFLOAT16
    fix = Fix("load the weights in bfloat16", automatic=False, changes=(Change(("model", "dtype"), "bfloat16"),))
    where = context.at("model", "dtype")
    if asked == "float16" and stored in ("bfloat16", "float32") and able:
        yield Found(
            f"the weights are stored in {stored} and loaded in float16, whose range is far smaller: activations may overflow to inf. Set "
            "model.dtype: bfloat16, which this card has",
            where,
            {"stored": stored, "asked": asked},
            fix,
        )
    elif asked == "float32" and stored in ("bfloat16", "float16") and frozen and able:
        yield Found(
            f"the weights are stored in {stored}, stay frozen and are loaded in float32: twice the memory for nothing. Set model.dtype: "
            "bfloat16",
            where,
            {"stored": stored, "asked": asked},
            fix,
        )
    named = context.model.config.get("dtype") or context.model.config.get("torch_dtype")
    if named == "float16" and stored == "bfloat16":
        yield Found(
            "config.json says float16 and the weights are bfloat16: programs that follow the config, for serving as well, round them into "
            'a range that may overflow. Set "dtype": "bfloat16" in config.json',
            Where(str(context.model.folder / "config.json"), view="alignment"),
            {"stored": stored, "config": named},
        )


def _stored(context: Context) -> str | None:
    """The type that most numbers of the weights have, in torch's name; None for one that is not listed."""
    counted: Counter[str] = Counter()
    for tensor in context.model.tensors.values():
        counted[tensor.dtype] += prod(tensor.shape)
    return TYPES.get(counted.most_common(1)[0][0]) if counted else None


@check("EMB10", "error", "a base that is quantised already", Stage.HEADERS)
def already_quantised(context: Context) -> Iterator[Found]:
    """The checkpoint is quantised. It cannot be trained as a whole (transformers refuses), and another quantisation cannot be laid over it:
    transformers raises for another method and ignores other settings of the same one.

    Do: take the checkpoint in 16 bits, or drop `quantization:` and train an adapter.
    Known from: transformers/trainer_utils.py validate_quantization_for_training; quantizers/auto.py merge_quantization_configs.
    """
    config = context.model.config.get("quantization_config")
    if not isinstance(config, dict):
        return
    method, wanted = _method(config), context.recipe.quantization
    evidence = {"checkpoint": method, "recipe": wanted}
    if not context.recipe.peft and not context.recipe.model.get("adapter"):
        yield Found(
            f"the checkpoint is quantised ({method}) and the recipe trains all its weights, which transformers refuses: add peft:, or take "
            "the checkpoint in 16 bits",
            context.at("model", "name_or_path"),
            evidence,
        )
    elif wanted and any(wanted.get(key) for key in ("load_in_4bit", "load_in_8bit")):
        asked = _method(wanted)
        if asked != method:
            remedy = "remove quantization:, or take the checkpoint in 16 bits"
            yield Found(
                f"the checkpoint is quantised already ({method}), and the recipe asks for {asked}: {remedy}",
                context.at("quantization"),
                evidence,
                Fix("leave the checkpoint's own quantisation", changes=(Change(("quantization",), remove=True),)),
                "error" if method.partition(" ")[0] != "bitsandbytes" else "warning",
            )


def _method(config: dict[str, Any]) -> str:
    """E.g. "gptq 4 bits" or "bitsandbytes 4 bits"; a recipe's section is always bitsandbytes'."""
    bits = 4 if config.get("load_in_4bit") else 8 if config.get("load_in_8bit") else config.get("bits")
    name = str(config.get("quant_method") or "bitsandbytes").removesuffix(f"_{bits}bit")
    return f"{name} {bits} bits" if bits else name
