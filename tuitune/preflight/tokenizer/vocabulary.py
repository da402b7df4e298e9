"""Token ids against the rows of the embedding, and what the tokenizer's files say of them: TOK01, TOK02, TOK12, TOK13, TOK14."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuitune.preflight.finding import Found, Where
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.tokenizer.padding import choose_padding
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")
FOREIGN = 0.02  # share of a vocabulary beyond the rows from which on it is that of another model
SPARE = 0.2  # share of rows without a token; padding of a vocabulary takes some percent
SHOWN = 10


@check("TOK01", "error", "a token id beyond the embedding", Stage.ROWS)
def id_out_of_range(context: "CheckContext") -> Iterator[Found]:
    """A token of the data has an id for which the embedding has no row: IndexError on the CPU, an assert somewhere later on a GPU.

    The largest id that is used is compared with the rows of the embedding's tensor, never with len(tokenizer): ids can have gaps.
    Ordinary words beyond the rows that this data does not use are a warning; markers that nothing uses are TOK13's information.
    Do: choose a pad token and markers that the model knows, or declare new ones in tokenizer.add_special_tokens, which adds their rows.
    Known from: transformers#24698, llama-cookbook#189.
    """
    rows, tokenizer = context.embedding_rows, context.tokenizer
    new = set(context.recipe.tokenizer.get("add_special_tokens") or ())  # their rows are added
    beyond = {id: text for text, id in context.vocabulary.items() if id >= rows and text not in new}
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id  # as TRL chooses it
    met = [(id, f"row {context.used[id]}", context.row(context.used[id])) for id in sorted(beyond) if id in context.used]
    met += [(padding, "padding", context.at("tokenizer", "pad_token"))] if padding in beyond and padding not in context.used else []
    for id, use, where in met[:SHOWN]:
        text = printable(beyond[id], limit=40)
        yield Found(
            f"token {text!r} has id {id}, the embedding has rows 0 to {rows - 1} ({use}): the first step that meets it crashes. Use a "
            "token that the model knows, or name it in tokenizer.add_special_tokens",
            where,
            {"token": text, "id": id, "rows": rows, "used": use},
        )
    words = sorted(set(beyond) - set(tokenizer.added_tokens_decoder) - {id for id, _, _ in met})
    if words and not met:
        yield Found(
            f"{len(words)} words of the vocabulary have ids beyond the embedding's {rows} rows; no training row uses them, but any other "
            "text may, and then crashes. Take the tokenizer that belongs to this model",
            context.at("model", "name_or_path", view="alignment"),
            {"words": [printable(beyond[id], limit=40) for id in words[:SHOWN]], "count": len(words), "rows": rows},
            severity="warning",
        )


@check("TOK02", "error", "a declared token is not in the vocabulary", Stage.TOKENIZER)
def declared_not_in_vocabulary(context: "CheckContext") -> Iterator[Found]:
    """tokenizer_config.json names a special token that tokenizer.json does not have: transformers adds it with a new id when it loads,
    often one beyond the embedding (Llama-3.1 and "[PAD]": id 128256 where the rows end at 128255), and the first padded batch crashes.

    Error when the id has no row and is needed; a warning when the end token takes a spare row that was never trained; else information.
    Do: take a special token that the vocabulary has and nothing uses; `tuitune check --fix` writes it as tokenizer.pad_token.
    Known from: llama-cookbook#189.
    """
    config = context.model.tokenizer_config
    if config is None:
        return
    tokenizer, rows = context.tokenizer, context.embedding_rows
    known = {text for _, text in context.model.added_tokens}
    for role, text in _declared(config):
        in_force = getattr(tokenizer, role, None) if role in ROLES else text
        if text in known or in_force != text or text in context.raw_vocabulary:  # the recipe may have chosen another one
            continue
        id, shown = tokenizer.convert_tokens_to_ids(text), printable(text, limit=40)
        if id is None:
            continue
        needed = role in ("pad_token", "eos_token", "bos_token") or any(text in other for other in context.texts)
        fatal = needed and id >= rows
        fix = choose_padding(context) if role == "pad_token" else None
        lost = f"id {id}, beyond the embedding's {rows} rows" if id >= rows else f"id {id}, a spare row that was never trained"
        remedy = f"set tokenizer.pad_token: {fix.changes[0].value!r}" if fix else "use one that the vocabulary has"
        what = "the first batch that is padded crashes" if role == "pad_token" else "it crashes where it is used"
        yield Found(
            f"{role} {shown!r} is not in tokenizer.json, so it gets {lost}{f': {what}' if fatal else ''}; {remedy}",
            Where(str(context.model.folder / "tokenizer_config.json"), view="alignment"),
            {"role": role, "token": shown, "id": id, "rows": rows},
            fix,
            "error" if fatal else "warning" if role == "eos_token" else "info",
        )


def _declared(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(role, text) of the special tokens that a tokenizer_config.json names; they are texts or AddedTokens written as objects."""
    for role in ROLES:
        value = config.get(role)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            yield role, text
    for name in ("additional_special_tokens", "extra_special_tokens"):
        values = config.get(name) or []
        for value in values.values() if isinstance(values, dict) else values:
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                yield name, text


@check("TOK12", "error", "the tokenizer of another model", Stage.TOKENIZER)
def of_another_model(context: "CheckContext") -> Iterator[Found]:
    """The tokenizer does not belong to the weights: the ids mean other words, so training starts from noise.

    Told by more than 2 % of the vocabulary beyond the embedding's rows, or by an end token of config.json that is an ordinary word here or
    is not there at all. Ids that are only the config class's defaults say nothing, unless a fifth of the rows has no token either.
    Do: copy tokenizer.json, tokenizer_config.json and the chat template from the model that the weights come from.
    Known from: models put together by hand; mergekit and conversion scripts.
    """
    tokenizer, rows = context.tokenizer, context.embedding_rows
    vocabulary = context.vocabulary
    beyond = sum(id >= rows for id in vocabulary.values())
    where = context.at("model", "name_or_path", view="alignment")
    if beyond > FOREIGN * len(vocabulary):
        yield Found(
            f"{beyond:,} of the tokenizer's {len(vocabulary):,} ids are beyond the embedding's {rows:,} rows: it is the tokenizer of "
            "another model. Copy the tokenizer's files from the model that the weights come from",
            where,
            {"beyond": beyond, "vocabulary": len(vocabulary), "rows": rows},
        )
        return
    ids = _ids(context.model.text_config.get("eos_token_id")) | _ids((context.model.generation_config or {}).get("eos_token_id"))
    spare = rows - max(vocabulary.values()) - 1
    if not ids or tokenizer.eos_token_id in ids or (context.default_ends(ids) and spare <= SPARE * rows):
        return
    markers = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    known = set(vocabulary.values())
    texts = {id: tokenizer.convert_ids_to_tokens(id) if id in known else None for id in sorted(ids)}
    if not any(id in markers for id in ids):
        named = ", ".join(f"{id} is {printable(text, limit=20)!r}" if text else f"{id} is no token" for id, text in texts.items())
        yield Found(
            f"config.json ends texts with a token that this tokenizer has not ({named}): it is the tokenizer of another model, and its ids "
            "mean other words. Copy the tokenizer's files from the model that the weights come from",
            where,
            {"eos": {str(id): text for id, text in texts.items()}, "rows": rows, "vocabulary": len(vocabulary)},
        )


def _ids(value: Any) -> set[int]:
    """The ids that an eos_token_id of a config means: a number, a list or nothing."""
    return {id for id in (value if isinstance(value, list) else [value]) if isinstance(id, int) and not isinstance(id, bool)}


@check("TOK13", "info", "vocabulary and embedding rows", Stage.TOKENIZER)
def vocabulary_against_rows(context: "CheckContext") -> Iterator[Found]:
    """How many rows the embedding has beyond the largest token id: a padded vocabulary is sound, and its spare rows can become new tokens.

    Rows that are no multiple of 64 cost some speed on a GPU. A marker beyond the rows that nothing uses is harmless (Gemma-3-1B has one:
    262,145 ids, 262,144 rows); where it is used TOK01 says so.
    Do: nothing; new tokens of tokenizer.add_special_tokens take the spare rows first.
    Known from: transformers#37011, llama.cpp#12876, MemPalace#2114; trl#5608.
    """
    rows, vocabulary = context.embedding_rows, context.vocabulary
    spare = rows - 1 - max(vocabulary.values())
    new = set(context.recipe.tokenizer.get("add_special_tokens") or ())
    beyond = sorted((id, text) for text, id in vocabulary.items() if id >= rows and text not in new)
    told = []
    if spare > 0:
        told.append(f"the embedding has {spare:,} spare rows after the last token, which is sound; new tokens would fit into them")
    if beyond:
        shown = ", ".join(f"{printable(text, limit=30)!r} ({id})" for id, text in beyond[:3])
        told.append(f"{len(beyond)} token ids have no row in the embedding ({shown}); harmless as long as no text has them")
    if rows % 64:
        told.append(f"the embedding's {rows:,} rows are no multiple of 64, which costs a GPU some speed")
    if told:
        yield Found(
            "; ".join(told),
            context.at("model", "name_or_path", view="alignment"),
            {"rows": rows, "largest_id": max(vocabulary.values()), "spare": spare, "beyond": [id for id, _ in beyond[:SHOWN]]},
        )


@check("TOK14", "warning", "an added token is there twice", Stage.TOKENIZER)
def duplicate_added_token(context: "CheckContext") -> Iterator[Found]:
    """Two added tokens share a text or an id, or tokenizer_config.json gives an id another text than tokenizer.json does.

    The loader keeps one of them, or adds the token again at the end with a new id: what the model learnt under the old id is lost.
    Do: take tokenizer.json and tokenizer_config.json from one and the same revision.
    Known from: transformers' loader (added_tokens_decoder against tokenizer.json).
    """
    context.loaded_tokenizer  # noqa: B018 one that cannot be loaded is told in its own words
    config, added = context.model.tokenizer_config or {}, context.model.added_tokens
    for what, counted in (("id", Counter(id for id, _ in added)), ("text", Counter(text for _, text in added))):
        twice = [value for value, count in counted.items() if count > 1]
        if twice:
            shown = ", ".join(printable(repr(value), limit=40) for value in twice[:3])
            yield Found(
                f"tokenizer.json has added tokens with the same {what} ({shown}): only one of them is in force. Copy the tokenizer's "
                "files again from one revision",
                Where(str(context.model.folder / "tokenizer.json"), view="alignment"),
                {f"{what}s": [printable(str(value)) for value in twice[:SHOWN]], "count": len(twice)},
            )
    decoder = config.get("added_tokens_decoder")
    written = {int(id): token["content"] for id, token in decoder.items() if str(id).isdigit()} if isinstance(decoder, dict) else {}
    stands = dict(added)
    if not set(written) <= set(stands):
        stands = {**{id: text for text, id in context.raw_vocabulary.items()}, **stands}
    differ = [(id, text, stands[id]) for id, text in written.items() if stands.get(id, text) != text]
    if differ:
        id, text, other = differ[0]
        yield Found(
            f"tokenizer_config.json says that id {id} is {printable(text, limit=40)!r}, tokenizer.json says {printable(other, limit=40)!r} "
            f"({len(differ)} such ids): the loader gives the token a new id that was never trained. Copy both files from one revision",
            Where(str(context.model.folder / "tokenizer_config.json"), view="alignment"),
            {"differ": [[id, printable(text), printable(other)] for id, text, other in differ[:SHOWN]], "count": len(differ)},
        )
