"""Rows of the embedding for the tokens that are used: EMB04, EMB05, EMB06."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tuitune.preflight.finding import Change, Fix, Found, NotHere, Where
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

SHOWN = 10


@check("EMB04", "warning", "a used token was never trained", Stage.WEIGHTS)
def untrained_rows_in_use(context: "CheckContext") -> Iterator[Found]:
    """A special token of the rows has an embedding that was never trained: all zeros, far shorter than others, a copy of another special
    token's row (SmolLM2's unused ones have an ordinary norm) or the mean of all rows. Both tables are looked at when they are two.

    An error for the markers of the chat template and the end of a turn, as in the base models of Llama-3 (<|eot_id|> at p = 0.05); only a
    warning when those rows are trained, and information for other tokens then. Rows that no text uses are sound however they look.
    Do: start from the Instruct model, use a template whose tokens the base model knows, or make the rows trainable (EMB05).
    Known from: llama3#77, unsloth#1056, #658, #915, axolotl#1666, torchtune#2429.
    """
    untrained = context.untrained_ids
    if not untrained:
        return
    trainable = trained_sides(context, list(untrained)) >= {"input", "output"}
    markers = [id for id in untrained if _is_marker(context, id)]
    others = [id for id in untrained if id not in markers]
    for ids, what, severity in (
        (markers, "markers of the chat template", "warning" if trainable else "error"),
        (others, "tokens of the data", "info" if trainable else "warning"),
    ):
        if ids:
            tokens = {printable(context.tokenizer.convert_ids_to_tokens(id), limit=40): untrained[id] for id in sorted(ids)[:SHOWN]}
            first = next(iter(tokens))
            remedy = (
                "They are trained here, from nothing: many rows are needed"
                if trainable
                else "Start from the Instruct model or use a template with tokens that this model knows; or train the rows (EMB05)"
            )
            yield Found(
                f"{len(ids)} {what} were never trained ({first!r}: {tokens[first]}): the model reads them as noise. {remedy}",
                context.row(min(context.used[id] for id in ids)),
                {"tokens": tokens, "ids": sorted(ids)[:SHOWN], "count": len(ids), "trainable": trainable},
                None if trainable else _train_rows(context, automatic=False),
                severity,  # type: ignore[arg-type]
            )


def _is_marker(context: "CheckContext", id: int) -> bool:
    tokenizer = context.tokenizer
    text = tokenizer.convert_ids_to_tokens(id)
    ends = {talk.end for talk in context.rendered}
    return id in {tokenizer.eos_token_id, tokenizer.bos_token_id, *ends} or text in str(tokenizer.chat_template or "")


@check("EMB05", "error", "new tokens cannot learn", Stage.WEIGHTS)
def new_tokens_not_trainable(context: "CheckContext") -> Iterator[Found]:
    """The rows use tokens whose embeddings were never trained, and the adapter leaves input embedding and output head frozen: the model can
    neither read nor say them, whatever the loss does.

    Rows that a resize adds start as (almost) the mean of all others. tokenizer.add_special_tokens takes care of its own.
    Do: save and train both embeddings with the adapter (modules_to_save, tied where the model ties them); `--fix` writes it.
    Known from: LlamaFactory#2684, #6749; preflight-checks.md A.8.
    """
    untrained = context.untrained_ids
    if not untrained:
        return
    frozen = {"input", "output"} - trained_sides(context, list(untrained))
    if not frozen:
        return
    sides = " and ".join(side for side in ("input", "output") if side in frozen)
    tokens = [printable(context.tokenizer.convert_ids_to_tokens(id), limit=40) for id in sorted(untrained)[:SHOWN]]
    fix = _train_rows(context, automatic=True)
    yield Found(
        f"{len(untrained)} tokens of the rows were never trained (e.g. {tokens[0]!r}), and the adapter freezes the {sides} embedding: "
        f"they cannot be learnt{f'. {fix.title[0].upper()}{fix.title[1:]}' if fix else ''}",
        context.at("peft", "modules_to_save"),
        {"tokens": tokens, "ids": sorted(untrained)[:SHOWN], "count": len(untrained), "frozen": sorted(frozen)},
        fix,
    )


def _train_rows(context: "CheckContext", automatic: bool) -> Fix | None:
    """Both embeddings in modules_to_save (preflight-checks.md A.8); None when an adapter is continued, whose modules are what they are."""
    if context.recipe.peft is None:
        return None
    names = [name.rpartition(".")[2] for name in context.embedding_names if name]
    kept = context.recipe.peft.get("modules_to_save") or []
    changes = [Change(("peft", "modules_to_save"), [*kept, *(name for name in names if name not in kept)])]
    if context.model.tied:
        changes.append(Change(("peft", "ensure_weight_tying"), True))
    if context.recipe.peft.get("trainable_token_indices") is not None:
        changes.append(Change(("peft", "trainable_token_indices"), remove=True))  # peft refuses both for one module
    tensor = context.model.input_embedding
    size = f", {_cost(tensor.shape, bool(context.model.tied))} more memory" if tensor is not None else ""
    return Fix(f"train {' and '.join(names)} with the adapter{size}", automatic, changes=tuple(changes))


def _cost(shape: tuple[int, ...], tied: bool) -> str:
    """Of a copy in float32 with its gradient and Adam's two moments: 16 bytes a number."""
    size = (1 if tied else 2) * shape[0] * shape[1] * 16
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def trained_sides(context: "CheckContext", ids: Iterable[int]) -> set[str]:
    """Which of "input" and "output" embedding learn the rows of these ids."""
    peft: dict[str, Any] | None = context.recipe.peft
    if peft is None and not context.recipe.model.get("adapter"):
        return {"input", "output"}
    if peft is None:
        peft = context.adapter.config
    elif context.new_ids:
        return {"input", "output"}  # the trainer saves and trains both whole
    first, last = context.embedding_names
    found = {side for side, name in (("input", first), ("output", last)) if name and _touches(peft, name, set(ids))}
    tied_by_peft = peft.get("ensure_weight_tying") or isinstance(peft.get("trainable_token_indices"), list)
    return {"input", "output"} if found and context.model.tied and tied_by_peft else found


def _touches(peft: dict[str, Any], name: str, ids: set[int]) -> bool:
    """Whether an adapter's config makes these rows of a module trainable: the whole module, a LoRA on it, or the rows themselves."""
    if _listed(peft.get("modules_to_save"), name) or _listed(peft.get("target_modules"), name):
        return True
    indices = peft.get("trainable_token_indices")
    if isinstance(indices, list):
        return name.rpartition(".")[2] != "lm_head" and ids <= set(indices)
    return isinstance(indices, dict) and any(_listed([key], name) and ids <= set(rows) for key, rows in indices.items())


def _listed(wanted: Any, name: str) -> bool:
    """peft's rule: a list has whole names or ends of them, a string is a regular expression ("all-linear" leaves embeddings out)."""
    if isinstance(wanted, str):
        return wanted != "all-linear" and re.fullmatch(wanted, name) is not None
    return any(name == entry or name.endswith(f".{entry}") for entry in wanted or ())


@check("EMB06", "error", "an embedding row is not a number", Stage.WEIGHTS)
def rows_not_finite(context: "CheckContext") -> Iterator[Found]:
    """A row of the embedding holds NaN or infinity: the loss is NaN from the first batch that has the token. In the output head (and so in
    a tied embedding) any such row makes every loss NaN, since all tokens take part in the softmax.

    Tables of up to 1 GiB are read as a whole; of larger ones the rows of the used tokens.
    Do: fetch the weights again; if the file is as published, the model is broken.
    Known from: merges and conversions in float16 that overflowed.
    """
    if not context.model.tensors:
        raise NotHere("there are no weights to look at")
    for table in context.tables:
        if not table.bad:
            continue
        used = [id for id in table.bad if id in context.used]
        head = context.model.tied or table.tensor is context.model.output_embedding
        shown = used or table.bad
        text = printable(context.tokenizer.convert_ids_to_tokens(shown[0]) or "", limit=40)
        where = "from the first step" if head else "from the first batch that has one"
        consequence = f"the loss is NaN {where}" if head or used else "no training row has them, but other texts may"
        yield Found(
            f"{len(table.bad)} rows of {table.tensor.name} hold NaN or infinity (e.g. {text!r}, id {shown[0]}): {consequence}. Fetch the "
            "weights again",
            context.row(context.used[used[0]]) if used else Where(str(table.tensor.file), view="alignment"),
            {"tensor": table.tensor.name, "ids": shown[:SHOWN], "count": len(table.bad), "used": len(used)},
            severity="error" if head or used else "warning",
        )
