"""Checks of what of a render is the assistant's: the mask of assistant_only_loss, and the token that ends an answer."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tuitune.errors import UserError
from tuitune.preflight.finding import Fix, Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.template.places import counted, new_template, of_row, of_template
from tuitune.template.report import marked_path
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.rendering import Talk

MASKED = 50  # rows whose mask is looked at


@check("TPL03", "error", "assistant_only_loss and no mask for it", Stage.DATA)
def no_mask(context: "CheckContext") -> Iterator[Found]:
    """training.assistant_only_loss needs {% generation %} in the template, or a template of which TRL has a variant; this is neither.

    TRL knows some thirty templates, by equality of every byte; the stock templates of Llama-3.1 and 3.2 and older ones of Qwen3 are not
    among them. It raises ValueError, after the model was loaded.
    Do: take the proposed template, which is yours with the markers in it, proven on your rows: same text, same tokens, and the mask is
    what the assistant writes. Or leave assistant_only_loss out.
    Known from: transformers#34172, trl#4201.
    """
    renders = context.renders
    if renders.refusal is None:
        return
    marking = renders.marked(renders.stock.text)
    fix = _marked(context, marking.text) if marking.text else None
    way = "A template with the markers can be written" if fix else f"Markers cannot be put in ({marking.refused})"
    yield Found(
        "training.assistant_only_loss is set, and the chat template does not say what the assistant writes ({% generation %}) nor has "
        f"TRL a variant of it that does: the trainer refuses to start. {way}; else leave assistant_only_loss out",
        context.at("training", "assistant_only_loss"),
        {"proven": marking.proven, "refused": marking.refused, "trl": renders.refusal},
        fix,
    )


def _marked(context: "CheckContext", text: str) -> Fix:
    kind = marked_path(context.recipe.file).name.removeprefix(f"{context.recipe.file.stem}.").removesuffix(".jinja")
    return new_template(context, "write the template with {% generation %} in it, and use it", text, kind)


@check("TPL04", "error", "the token that ends an answer is not trained", Stage.DATA)
def end_not_trained(context: "CheckContext") -> Iterator[Found]:
    """No label of any row is the token that ends a turn, so that the model never learns to stop: it writes on until the limit.

    Either the template prints no such token behind an answer (TRL adds one to plain text only, never to conversations), or it prints it
    outside of {% generation %} (a warning: the base model may know how to stop; TRL only logs it). Templates in which the next turn's
    first token ends an answer (GLM) train it where there is a next turn; where no row has one, that is a warning too.
    Do: use the model's own template, or print eos_token behind the answer; move {% endgeneration %} behind the end token.
    Known from: trl#1623, stanford_alpaca#126, trl.chat_template_utils.is_chat_template_stop_token_trained.
    """
    renders = context.renders
    ends = [(shape, ending) for shape, text in renders.rendered for ending in [renders.ending(shape.talk)] if ending is not None]
    if ends and not any(renders.control_ids(ending) for _, ending in ends):
        stops = _stops(context)
        if any(stops.intersection(renders.next_begins(shape.talk)) for shape, _ in renders.rendered):
            return
        shown = printable(repr(ends[0][1]), limit=60)
        yield Found(
            f"behind an answer the chat template prints {shown} and no token that ends the turn: the model never learns to stop. Use the "
            "model's own template, or print eos_token behind the assistant's content",
            of_template(context),
            {"behind_the_answer": ends[0][1][:100], "eos_token": renders.tokenizer.eos_token},
            severity="warning" if stops.intersection(renders.next_begins(_asked_again(ends[0][0].talk))) else None,
        )
    elif renders.masks and not renders.empty_masks and not renders.end_is_masked:
        unmarked = without_markers(renders.source.text)
        marking = renders.marked(unmarked) if unmarked else None
        yield Found(
            "with training.assistant_only_loss the token that ends an answer stands outside of {% generation %}: it is never trained, and "
            "the model does not learn to stop. Move {% endgeneration %} behind it",
            of_template(context),
            {"ending": ends[0][1][:100] if ends else ""},
            _marked(context, marking.text) if marking and marking.text else None,
            "warning",
        )


def _stops(context: "CheckContext") -> set[int]:
    """The tokens at which generation stops."""
    stops = {context.tokenizer.eos_token_id}
    try:
        configured = (context.model.generation_config or {}).get("eos_token_id")
    except (NotHere, UserError):
        configured = None
    return stops | set(configured if isinstance(configured, list) else [configured])


def _asked_again(talk: "Talk") -> "Talk":
    """The conversation with another question behind it."""
    return replace(talk, turns=[*talk.turns, {"role": "user", "content": "And then?"}])


def without_markers(template: str) -> str:
    """The template without {% generation %}: each of its tags as a tag that prints nothing, so that the blanks beside it stay."""
    from tuitune.template.jinja_source import normalized, pieces

    source = normalized(template)
    found = ""
    for piece in pieces(source):
        text = source[piece.start : piece.end]
        word = {"generation": "if true", "endgeneration": "endif"}.get(piece.word)
        found += f"{piece.begin} {word} {piece.close}" if word else text
    return found


@check("TPL18", "warning", "the assistant's mask is not the assistant's text", Stage.DATA)
def mask_sanity(context: "CheckContext") -> Iterator[Found]:
    """With training.assistant_only_loss the mask of a row with an answer is empty (an error: TRL stops there), or has text of the user in
    it.

    Then the model is trained on nothing, or on questions. Looked at: one conversation of every shape, and a sample of the rows.
    Do: correct {% generation %} in tokenizer.chat_template; `tuitune template --mark-generation` puts it in anew, with a proof.
    Known from: trl (RuntimeError "at least one example has no assistant tokens").
    """
    renders = context.renders
    if not renders.masks:
        return
    for shape in renders.empty_masks[:1]:
        row = shape.rows[0]
        yield Found(
            f"row {row} has an answer and its mask is empty: TRL stops there. Correct {{% generation %}} in the chat template",
            of_row(context, row),
            {"rows": shape.rows, "conversations": counted(renders.empty_masks)},
            severity="error",
        )
    talks = [shape.talk for shape, _ in renders.rendered if shape.split == "train"]
    talks += [sampled.talk for sampled in renders.sample[:MASKED]]
    wrong = next((found for found in ((talk.row, renders.mask(talk)) for talk in talks) if found[1].others), None)
    if wrong:
        row, mask = wrong
        yield Found(
            f"in row {row} the mask of assistant_only_loss has text of the {printable(mask.others, limit=40)} in it, which would be "
            "trained: correct {% generation %} in the chat template",
            of_row(context, row),
            {"row": row, "masked": mask.excerpt, "share": round(mask.masked / mask.tokens, 2)},
        )


@check("TPL20", "warning", "a template with markers that the model never learnt", Stage.WEIGHTS)
def untrained_markers(context: "CheckContext") -> Iterator[Found]:
    """Markers that the chat template prints have untrained rows in the embedding: it is the template of an instruct model on a base model.

    Base models of Llama-3 have the template's tokens in their vocabulary and nothing behind them. EMB04 tells which rows, and why.
    Do: take the instruct model; a template whose tokens the model knows; or train the rows (peft.modules_to_save).
    Known from: llama3#77, unsloth#1056, axolotl#1666, torchtune#2429.
    """
    renders, untrained = context.renders, context.untrained_ids
    printed = {id for shape, _ in renders.rendered for id in renders.markers(shape.talk)} if untrained else set()
    ids = sorted(printed.intersection(untrained))
    if ids:
        names = [str(name) for name in context.tokenizer.convert_ids_to_tokens(ids)]
        shown = ", ".join(printable(name, limit=40) for name in names[:4]) + (" …" if len(names) > 4 else "")
        yield Found(
            f"the chat template prints {shown}, whose rows of the embedding were never trained: this is a base model with the template "
            "of an instruct model. Take the instruct model, or a template whose tokens this one knows",
            of_template(context),
            {"tokens": names[:10], "ids": ids[:10], "why": [untrained[id] for id in ids[:10]]},
        )
