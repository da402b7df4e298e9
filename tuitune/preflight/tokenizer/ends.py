"""How texts begin and end: TOK06 to TOK10, TOK18."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.preflight.finding import Change, DataCopy, Fix, Found
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

FIRST = ("text", "prompt", "chosen", "rejected")  # string columns that a sequence can begin with


def configured_ends(context: "CheckContext") -> set[int]:
    """The ids at which generation stops: generation_config.json's, or config.json's when there is no such file."""
    source = context.model.generation_config
    value = (context.model.text_config if source is None else source).get("eos_token_id")
    return {id for id in (value if isinstance(value, list) else [value]) if isinstance(id, int)}


@check("TOK06", "error", "no end token", Stage.TOKENIZER)
def no_end_token(context: "CheckContext") -> Iterator[Found]:
    """The tokenizer has no end token, and TRL appends one to every row of plain text: TypeError while the rows are prepared.

    Do: name the token that ends a text in tokenizer.eos_token.
    Known from: trl/trainer/sft_trainer.py, add_eos ('endswith first arg must be str').
    """
    if context.tokenizer.eos_token_id is None and "conversational" not in context.train.format:
        yield Found(
            "the tokenizer has no end token, and one is appended to every text: preparing the rows fails. Name the token that ends a text "
            "in tokenizer.eos_token",
            context.at("tokenizer", "eos_token"),
            {"format": context.train.format},
        )


@check("TOK07", "warning", "the turn's end is not the end token", Stage.TOKENIZER)
def turn_ends_otherwise(context: "CheckContext") -> Iterator[Found]:
    """The chat template ends an assistant turn with a token at which generation does not stop: it is neither the tokenizer's end token nor
    in generation_config.json's eos_token_id. The model learns to say it and then talks on.

    Do: make it the end token (tokenizer.eos_token), which the trainer writes into the model's configuration; `--fix` does.
    Known from: unsloth#416, #419 (Llama-3), trl#1623.
    """
    tokenizer = context.tokenizer
    stops = {tokenizer.eos_token_id, *configured_ends(context)}
    wrong = Counter(talk.end for talk in context.rendered if talk.end is not None and talk.end not in stops)
    for id, count in wrong.most_common(1):
        text = tokenizer.convert_ids_to_tokens(id)
        row = next(talk.row for talk in context.rendered if talk.end == id)
        yield Found(
            f"the chat template ends an answer with {printable(text)!r}, generation stops at {printable(repr(tokenizer.eos_token))}: the "
            f"trained model would talk on after its answer. Set tokenizer.eos_token: {printable(text)!r}",
            context.at("tokenizer", "eos_token"),
            {"end_of_turn": text, "id": id, "eos": tokenizer.eos_token, "stops_at": sorted(stops - {None}), "row": row, "looked_at": count},
            Fix(
                f"end turns with {printable(text)}",
                automatic=True,
                changes=(Change(("tokenizer", "eos_token"), text),),
            ),
        )


@check("TOK08", "info", "end tokens disagree", Stage.TOKENIZER)
def ends_disagree(context: "CheckContext") -> Iterator[Found]:
    """tokenizer, config.json and generation_config.json name end tokens that have none in common. The trainer writes the tokenizer's into
    the model's configuration when it starts, so that one is learnt.

    A warning for rows of plain text, to which the tokenizer's end token is appended: the model knows another. Ids that are only the config
    class's defaults say nothing.
    Do: name the right one in tokenizer.eos_token; `--fix` takes the model's own where the vocabulary has it.
    Known from: transformers.trainer_utils.align_special_tokens.
    """
    tokenizer = context.tokenizer
    if tokenizer.eos_token_id is None or context.recipe.tokenizer.get("eos_token"):
        return
    named = configured_ends(context)
    if not named or tokenizer.eos_token_id in named:
        return
    sound = [id for id in sorted(named) if id in tokenizer.added_tokens_decoder]
    texts = {id: printable(tokenizer.convert_ids_to_tokens(id) or "", limit=40) for id in sound}
    plain = "conversational" not in context.train.format
    fix = None
    if sound and plain:
        chosen = tokenizer.convert_ids_to_tokens(sound[0])
        fix = Fix(f"end texts with {printable(chosen)}", automatic=True, changes=(Change(("tokenizer", "eos_token"), chosen),))
    model = ", ".join(f"{id} {texts[id]!r}" if id in texts else f"{id}" for id in sorted(named))
    yield Found(
        f"the tokenizer ends texts with {printable(repr(tokenizer.eos_token))} (id {tokenizer.eos_token_id}), the model's configuration "
        f"names {model}: training goes by the tokenizer's. Name the right one in tokenizer.eos_token",
        context.at("tokenizer", "eos_token", view="alignment"),
        {"tokenizer": tokenizer.eos_token_id, "model": sorted(named), "tokens": {str(id): text for id, text in texts.items()}},
        fix,
        "warning" if fix else "info",
    )


@check("TOK09", "warning", "two beginning tokens", Stage.TOKENIZER)
def double_beginning(context: "CheckContext") -> Iterator[Found]:
    """Rows of plain text start with the beginning token, and the tokenizer puts one before them: the model sees two, which it never did.

    Conversations are safe: the template prints it and TRL encodes without adding another. Llama-3.1 doubles, Llama-3 does not.
    Do: take it off the texts (`--fix` makes a copy of the data), or give the rows as messages.
    Known from: trl#1400, OpenRLHF#393, unsloth#2648, Soup#788.
    """
    tokenizer = context.tokenizer
    bos = tokenizer.bos_token
    if not bos or tokenizer("x")["input_ids"][:1] != [tokenizer.bos_token_id]:
        return
    copies: list[DataCopy] = []
    found: list[tuple[str, int]] = []
    splits = [("train", context.train), *([("eval", context.evaluation)] if context.recipe.dataset.get("eval") else [])]
    for name, split in splits:
        rows = [at for at, row in enumerate(split.rows) if any(_starts(row.get(column), bos) for column in FIRST)]
        found += [(name, at) for at in rows]
        files = {split.places[at][0] for at in rows}
        copies += [
            DataCopy(name, number, steps=("strip-bos",), options={"bos": bos})
            for number, source in enumerate(context.recipe.dataset[name])
            if _file(source) in files
        ]
    if found:
        name, first = found[0]
        yield Found(
            f"{len(found):,} rows of text start with {printable(bos)!r}, and the tokenizer adds another: take it off the texts, or give "
            "the rows as messages",
            context.row(first, name),
            {"rows": [at for _, at in found[:10]], "count": len(found), "token": bos},
            Fix(f"copies of the data without {printable(bos)} at the beginning", automatic=True, copies=tuple(copies)) if copies else None,
        )


def _starts(value: Any, bos: str) -> bool:
    return isinstance(value, str) and value.startswith(bos)


def _file(source: dict[str, Any]) -> str:
    return str(Path(source["path"]))


@check("TOK10", "warning", "no beginning token", Stage.TOKENIZER)
def beginning_missing(context: "CheckContext") -> Iterator[Found]:
    """The model was trained with a beginning token before every text, and the rendered conversations lack it: answers get worse.

    Told where config.json names one and the tokenizer adds it to plain text, the model's own template prints it, or its
    tokenizer_config.json asks for it (which transformers 5 does not obey when there is a tokenizer.json).
    Do: print {{ bos_token }} at the beginning of the template.
    Known from: conversions by mistral-common; preflight-checks.md A.11.
    """
    tokenizer = context.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None or context.model.text_config.get("bos_token_id") is None:
        return
    own = str((context.loaded_tokenizer if context.recipe.tokenizer.get("chat_template") else tokenizer).chat_template or "")
    adds = tokenizer("x")["input_ids"][:1] == [bos]
    asked = bool((context.model.tokenizer_config or {}).get("add_bos_token"))
    printed = "bos_token" in own or tokenizer.bos_token in own
    lacking = [talk.row for talk in context.rendered if bos not in talk.ids[:2]]
    if asked and not adds and "conversational" not in context.train.format:
        yield Found(
            f"the model's tokenizer asks for {printable(repr(tokenizer.bos_token))} before every text (add_bos_token), and tokenizer.json, "
            "which is what counts, adds none: the model was trained with it. Begin the texts with it",
            context.at("dataset", "train"),
            {"token": tokenizer.bos_token, "id": bos},
        )
    if lacking and (adds or asked or printed):
        why = (
            "the tokenizer puts it before every text" if adds else "its own template prints it" if printed else "its tokenizer asks for it"
        )
        yield Found(
            f"the chat template does not begin with {printable(repr(tokenizer.bos_token))}, which the model was trained with ({why}): put "
            "{{ bos_token }} at the beginning of the template",
            context.at("tokenizer", "chat_template", view="template"),
            {"token": tokenizer.bos_token, "id": bos, "rows": lacking[:10], "why": why},
        )


@check("TOK18", "error", "the template names a token that is not there", Stage.TOKENIZER)
def template_names_missing_token(context: "CheckContext") -> Iterator[Found]:
    """The chat template uses bos_token, eos_token, pad_token or unk_token, and the tokenizer has none: joined to a text with + it stops the
    preparation ("'bos_token' is undefined"), printed alone it is nothing, so the marker is lacking from every row.

    Do: name the token (tokenizer.eos_token, tokenizer.pad_token), or take it out of the template.
    Known from: jinja2.meta.find_undeclared_variables on real templates.
    """
    if "conversational" not in context.train.format:
        return
    for name, fails in context.missing_in_template.items():
        what = "preparing the rows fails" if fails else "nothing is printed there, and the rows lack it"
        settable = name in ("eos_token", "pad_token")
        remedy = f"name it in tokenizer.{name}, or take it out of the template" if settable else "take it out of the template"
        yield Found(
            f"the chat template uses {name}, and the tokenizer has none: {what}. {remedy[0].upper()}{remedy[1:]}",
            context.at("tokenizer", "chat_template", view="template"),
            {"variable": name, "fails": fails},
            severity="error" if fails else "warning",
        )
