"""Checks of adapters that reach into the embeddings."""

from collections.abc import Iterator
from typing import Any

from tuitune.preflight.adapter.configuration import lora
from tuitune.preflight.context import Context
from tuitune.preflight.finding import Change, Fix, Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.sizes import gib
from tuitune.recipe.new_tokens import Modules, objections, written_tokens

INPUT = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
OUTPUT = ("lm_head", "embed_out", "output")
BOTH = ["embed_tokens", "lm_head"]
ADAM = 4 + 4 + 8  # bytes for each trained weight in float32: itself, its gradient, Adam's two states


def _last(names: object) -> set[str]:
    """The last parts of module names."""
    if isinstance(names, dict):
        names = list(names)
    return {str(name).rpartition(".")[2] for name in names} if isinstance(names, list) else set()


def _sides(section: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Names under which the adapter touches the input and the output embedding."""
    names = _last(section.get("modules_to_save")) | _last(section.get("target_modules"))
    return names & set(INPUT), names & set(OUTPUT)


def whole_embeddings(context: Context, *, tied: bool, instead_of: str = "") -> Fix:
    """The way that trains, saves and merges: both embeddings whole, as one when the model has them as one. `instead_of`: a name that was
    meant to be one of them."""
    section, names = lora(context), list(BOTH)
    if context.model.input_embedding is not None:
        names[0] = context.model.input_embedding.name.removesuffix(".weight").rpartition(".")[2]
    if context.model.output_embedding is not None:
        names[1] = context.model.output_embedding.name.removesuffix(".weight").rpartition(".")[2]
    others = [name for name in section.get("modules_to_save") or [] if name != instead_of and _last([name]).isdisjoint((*INPUT, *OUTPUT))]
    changes = [Change(("peft", "modules_to_save"), [*others, *names])]
    if tied or section.get("ensure_weight_tying") is not None:
        changes.append(Change(("peft", "ensure_weight_tying"), tied))
    if "trainable_token_indices" in section:
        changes.append(Change(("peft", "trainable_token_indices"), remove=True))
    targets = section.get("target_modules")
    if isinstance(targets, list) and not _last(targets).isdisjoint((*INPUT, *OUTPUT)):
        changes.append(
            Change(("peft", "target_modules"), [one for one in targets if _last([one]).isdisjoint((*INPUT, *OUTPUT))] or "all-linear")
        )
    return Fix(f"Train {' and '.join(names)} whole{', tied' if tied else ''}{_cost(context, tied)}", automatic=True, changes=tuple(changes))


def _cost(context: Context, tied: bool) -> str:
    embedding = context.model.input_embedding
    if embedding is None:
        return ""
    return f" (about {gib(embedding.shape[0] * embedding.shape[1] * ADAM * (1 if tied else 2))} more memory)"


@check("PEFT03", "warning", "tied embeddings that the adapter tears apart", Stage.HEADERS)
def tied_and_saved(context: Context) -> Iterator[Found]:
    """Input and output embedding of the model are one matrix, and the adapter gets a copy of its own of one of them, or of both without
    tying: they drift apart, and a merge keeps only one. With embed_tokens alone the logits of new tokens stay frozen.

    Rule: tie_word_embeddings, and modules_to_save or target_modules name either side while ensure_weight_tying is not true.
    Do: modules_to_save: [embed_tokens, lm_head] with ensure_weight_tying: true.
    Known from: peft#2018, #2777, #2803, unsloth#9331.
    """
    section = lora(context)
    inside, outside = _sides(section)
    if written_tokens(context.recipe.tokenizer):
        return  # tuitune ties them by itself; what stands in the way is PEFT09's
    if not context.model.tied or section.get("ensure_weight_tying") is True or not (inside or outside):
        return
    if not inside and outside & _last(section.get("target_modules")):
        return  # LoRA on the head: PEFT02
    touched = " and ".join(sorted(inside | outside))
    effect = "the two copies drift apart" if inside and outside else f"only {touched} learns, the other side stays as it was"
    yield Found(
        f"the model's embedding and head are one matrix, and the adapter trains {touched} without ensure_weight_tying: {effect}, and "
        "merging loses one of them. Save both, tied",
        context.at("peft", "modules_to_save" if section.get("modules_to_save") else "target_modules"),
        {"modules_to_save": section.get("modules_to_save"), "target_modules": section.get("target_modules"), "tied": True},
        whole_embeddings(context, tied=True),
    )


@check("PEFT04", "error", "single trainable tokens on the head", Stage.HEADERS)
def token_indices(context: Context) -> Iterator[Found]:
    """trainable_token_indices wraps the output head when it is tied to the embedding, or named itself; TRL's fused head cannot read such a
    wrapper, and the first step ends with AttributeError.

    Rule: trainable_token_indices on a model with tied embeddings, or with the head among its keys.
    Do: train both embeddings whole (modules_to_save), tied as in the model.
    Known from: trl 1.16 ("'TrainableTokensWrapper' object has no attribute 'bias'"), peft#2863, #3649.
    """
    section = lora(context)
    indices = section.get("trainable_token_indices")
    if not indices or context.recipe.task == "reward":
        return
    tied, head = bool(context.model.tied), bool(_last(indices) & set(OUTPUT))
    if tied or head:
        because = "the head is tied to the embedding" if tied else "it names the head"
        yield Found(
            f"peft.trainable_token_indices cannot be trained with this version of TRL because {because}: the first step ends with an "
            "AttributeError. Train both embeddings whole",
            context.at("peft", "trainable_token_indices"),
            {"trainable_token_indices": indices, "tied": tied},
            whole_embeddings(context, tied=tied),
        )


@check("PEFT05", "error", "a trainable token beyond the embedding", Stage.HEADERS)
def index_out_of_range(context: Context) -> Iterator[Found]:
    """trainable_token_indices names a row that the embedding does not have: IndexError when the adapter is made.

    Do: name ids from 0 to the last row.
    Known from: peft.tuners.trainable_tokens (index_select, index_copy_).
    """
    indices, embedding = lora(context).get("trainable_token_indices"), context.model.input_embedding
    if not indices or embedding is None:
        return
    rows = embedding.shape[0] + len(context.recipe.tokenizer.get("add_special_tokens") or [])
    lists = list(indices.values()) if isinstance(indices, dict) else [indices]
    beyond = sorted({id for ids in lists if isinstance(ids, list) for id in ids if isinstance(id, int) and not 0 <= id < rows})
    if beyond:
        yield Found(
            f"peft.trainable_token_indices names {', '.join(map(str, beyond[:5]))}, the embedding has rows 0 to {rows - 1}: the run ends "
            "with an IndexError before its first step. Name ids of tokens that the model has",
            context.at("peft", "trainable_token_indices"),
            {"beyond": beyond[:10], "rows": rows},
        )


@check("PEFT09", "warning", "new rows of the embedding are not learnt or not saved", Stage.HEADERS)
def resized_not_saved(context: Context) -> Iterator[Found]:
    """`peft:` leaves the rows of tokenizer.add_special_tokens untrained or unsaved. LoRA trains linear layers and neither embedding, so
    tuitune trains and saves a copy of both, tied where the model has them as one; it fills in only what `peft:` is silent on, and the
    trainer refuses a value that contradicts.

    Rule: tokenizer.add_special_tokens is not empty, and modules_to_save is written without the embeddings, ensure_weight_tying is off for a
    tied model, or target_modules or trainable_token_indices claim the same modules; or the tokenizer beside model.adapter has ids beyond
    the base's rows, and the adapter no embedding.
    Do: take the key out, or take the value that is offered.
    Known from: peft.utils.save_and_load (save_embedding_layers="auto"), LlamaFactory#2684, #6749, peft#2777.
    """
    if context.recipe.model.get("adapter"):
        yield from _lost_rows(context)
        return
    tokens = written_tokens(context.recipe.tokenizer)
    if not tokens:
        raise NotHere("the recipe adds no tokens")
    modules = _modules(context)
    for objection in objections(lora(context), modules):
        if objection.key == "trainable_token_indices" and context.model.tied:
            continue  # PEFT04
        change = Change(("peft", objection.key), objection.instead, remove=objection.instead is None)
        yield Found(
            f"peft.{objection.key} would leave the tokens of tokenizer.add_special_tokens unlearnt: {objection.message}",
            context.at("peft", objection.key),
            {"key": objection.key, "needed": modules.names, "tied": modules.tied, "tokens": tokens[:10]},
            Fix(
                f"Remove `{objection.key}`" if change.remove else f"Write `{objection.key}: {objection.instead}`",
                automatic=True,
                changes=(change,),
            ),
            "error",  # the trainer refuses it
        )


def _modules(context: Context) -> Modules:
    """The embeddings' module names by the weights' headers. NotHere when the weights have none of the usual names."""
    given, taken = context.model.input_embedding, context.model.output_embedding
    if given is None:
        raise NotHere("the weights have no embedding under a usual name")
    name = given.name.removesuffix(".weight").rpartition(".")[2]
    if context.recipe.task == "reward":
        return Modules(name, None, False)
    head = taken.name.removesuffix(".weight").rpartition(".")[2] if taken else {"embed_in": "embed_out"}.get(name, "lm_head")
    return Modules(name, head, bool(context.model.tied))


def _lost_rows(context: Context) -> Iterator[Found]:
    """An earlier run's adapter whose tokenizer grew while its embedding stayed behind."""
    last, embedding = context.adapter.last_added_id, context.model.input_embedding
    if last is None or embedding is None:
        return
    saved = any(name in tensor for tensor in context.adapter.tensors for name in (*INPUT, *OUTPUT))
    if last >= embedding.shape[0] and not saved:
        yield Found(
            f"the adapter's tokenizer has ids up to {last}, the model {embedding.shape[0]} rows, and the adapter no embedding of its "
            "own: the rows of its new tokens were not saved and are lost. Train it again with both embeddings in modules_to_save",
            context.at("model", "adapter"),
            {"adapter": str(context.adapter.folder), "largest_id": last, "rows": embedding.shape[0]},
        )
