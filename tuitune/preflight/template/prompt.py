"""Checks of the border between what the model is asked and what it answers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tuitune.preflight.finding import Fix, Found
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.template.places import new_template, of_row, of_template
from tuitune.template.document import Difference
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

MERGED = 0.01  # share of rows from which on a merged token is no accident of a row's text


@check("TPL05", "warning", "the prompt is not the beginning of what is trained", Stage.DATA)
def prompt_not_prefix(context: "CheckContext") -> Iterator[Found]:
    """The template renders a prompt alone (with its generation prompt) otherwise than as the beginning of the whole conversation.

    So the model answers behind a text that it was never trained on. Reasoning models do it: R1's distillates, DeepSeek-V3.1 and Nemotron-3
    end the prompt with <think>, which the whole conversation does not have. TRL cuts where the two part and warns once. Looked at: a
    sample.
    Do: train with TRL's variant of the template where there is one, or put the think block into the data.
    Known from: LlamaFactory#6987, trl#6766, trl.data_utils.common_prefix_length.
    """
    renders = context.renders
    parted = [(sampled.talk, difference) for sampled in renders.sample for difference in [sampled.parts] if difference is not None]
    if parted:
        talk, first = parted[0]
        yield Found(
            f"in {len(parted)} of {len(renders.sample)} rows the prompt alone goes on with {_shown(first.one)}, where the whole "
            f"conversation has {_shown(first.other)}: the model answers behind a text that it is not trained on. Train with a template "
            "that prints both alike, or put what the prompt prints into the answers",
            of_row(context, talk.row),
            {"rows": [talk.row for talk, _ in parted[:10]], "failing": len(parted), "looked": len(renders.sample), **_evidence(first)},
            _variant(context, [talk for talk, _ in parted]),
        )


def _variant(context: "CheckContext", talks: Sequence[Any]) -> Fix | None:
    """The proposal of TRL's training variant, where that renders these prompts as it renders the whole."""
    variant = context.renders.variant()
    if variant is None or any(context.renders.sampled(talk, variant.text).parts for talk in talks):
        return None
    return new_template(context, "write TRL's training variant of the template, and use it", variant.text, "training")


def _shown(text: str) -> str:
    return printable(repr(text), limit=60)


def _evidence(difference: Difference) -> dict[str, Any]:
    return {"at": difference.at, "prompt": difference.one, "whole": difference.other}


@check("TPL06", "warning", "the prompt's end and the answer's beginning become one token", Stage.DATA)
def boundary_merge(context: "CheckContext") -> Iterator[Found]:
    """The tokens of the prompt are not the first tokens of prompt and answer: a token reaches over the border, so that the prompt's end is
    trained, and the model never sees the prompt as it will be asked.

    'a' and 'b' are 'ab'; a blank at the prompt's end belongs to the next word. Looked at: a sample of rows; told from 1 % on.
    Do: end the prompt at the border of a token, mostly with a line feed, or with the blank at the answer's beginning instead.
    Known from: trl.data_utils.common_prefix_length.
    """
    borders = context.prompt_borders
    looked, merged = len(borders), [(row, *border) for row, border in borders if border is not None]
    if looked and len(merged) > MERGED * looked:
        row, prompt, whole = merged[0]
        yield Found(
            f"in {len(merged)} of {looked} rows the end of the prompt and the beginning of the answer become one token ({_shown(prompt)} "
            f"alone, {_shown(whole)} together): the prompt's end is trained, and the model is asked in other tokens than it learnt. End "
            "the prompt at the border of a token: no blank there, but at the answer's beginning, or a line feed",
            of_row(context, row),
            {"rows": [row for row, _, _ in merged[:10]], "failing": len(merged), "looked": looked, "prompt": prompt, "whole": whole},
        )


@check("TPL12", "warning", "the template always asks for another answer", Stage.DATA)
def always_prompts(context: "CheckContext") -> Iterator[Found]:
    """Behind the last answer the template prints the header of another one, whether it is asked for a generation prompt or not.

    With the loss on all turns the model learns to go on after its end token. The original template of Llama-3 does it. The inverse, a
    template that prints no header when it is asked to though answers have one, is an information.
    Do: print the header only `{% if add_generation_prompt %}`, in a file named in tokenizer.chat_template.
    Known from: the first template of Meta-Llama-3-8B-Instruct.
    """
    renders = context.renders
    for shape, text in renders.rendered:
        ending = renders.ending(shape.talk)
        if ending is None or renders.renderer.prompted(shape.talk) != text:
            continue
        behind = renders.behind_the_end(ending)
        header = renders.header(shape.talk)
        if behind.strip():
            yield Found(
                f"behind the last answer the chat template prints {_shown(behind)}, asked for it or not: the model learns to begin another "
                "answer after its end. Print that only {% if add_generation_prompt %}",
                of_template(context),
                {"behind_the_end": behind},
            )
            return
        if header.strip():
            yield Found(
                f"the chat template prints no generation prompt, though answers begin with {_shown(header)}: whoever asks the model must "
                "add that",
                of_template(context),
                {"header": header},
                severity="info",
            )
            return
