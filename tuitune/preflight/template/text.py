"""Checks of what the template prints round the texts, and of what it makes of them."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING

from tuitune.preflight.finding import Found
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.template.places import copied, counted, of_row, of_template, rows_of
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.rendered_rows import Shape

MARKER = re.compile(r"<[|｜][^<>|｜\s]{1,40}[|｜]>|</?[A-Za-z_][\w▁-]{0,40}>|\[/?[A-Z_]{2,20}\]")
INDENTED = re.compile(r"[\r\n]*(?:\t| {2,})")  # how a text begins that loses its indentation by a trim
SHARE = 0.01
DAYS = (datetime(2001, 2, 3), datetime(2017, 11, 29))
FORMAT = re.compile(r"strftime_now\(\s*['\"]([^'\"]{1,40})['\"]")
PINNED = datetime(1999, 12, 31).strftime("%d %b %Y")


@check("TPL13", "warning", "a marker of the template is no token of this model", Stage.DATA)
def marker_is_no_token(context: "CheckContext") -> Iterator[Found]:
    """The marker with which the template ends an answer is several ordinary tokens for this tokenizer, as <|im_end|> is for Mistral.

    The model must learn to spell its own end, and whoever generates has no single token to stop at. Markers before a turn may be plain
    text ([INST] of the first Mistral is), so only those behind an answer count.
    Do: take the model's own template, or print eos_token there.
    Known from: ChatML on Mistral's vocabulary, where <|im_end|> is 7 tokens.
    """
    renders = context.renders
    for shape, _ in renders.rendered:
        ending = renders.ending(shape.talk)
        for marker in dict.fromkeys(MARKER.findall(ending or "")):
            ids = renders.renderer.ids(marker)
            if len(ids) > 1:
                yield Found(
                    f"the chat template ends answers with {printable(repr(marker), limit=60)}, which is {len(ids)} tokens of this "
                    "tokenizer and not one: nothing stops the model there. Take the model's own template, or print eos_token there",
                    of_template(context),
                    {"marker": marker, "ids": ids[:20]},
                )
                return


@check("TPL14", "info", "blanks that the template takes off answers", Stage.DATA)
def blanks_stripped(context: "CheckContext") -> Iterator[Found]:
    """Answers begin or end with blanks or line feeds, and the template takes them off (`| trim`, as those of Llama-3 and Gemma do).

    A warning where more than one in a hundred loses its indentation: code, and texts that go on from something.
    Do: nothing where the blanks mean nothing; else a template without trim in tokenizer.chat_template.
    Known from: the templates of Llama-3 and Gemma (`content | trim`).
    """
    renders = context.renders
    if not any(renders.strips(shape.talk) for shape, _ in renders.rendered[:20]):
        return
    rows, indented, total = [], 0, 0
    for row, content in renders.answers():
        total += 1
        if content != content.strip() and content.strip():
            rows.append(row)
            indented += INDENTED.match(content) is not None
    if rows:
        serious = indented > SHARE * total
        yield Found(
            f"{len(rows):,} of {total:,} answers begin or end with blanks or line feeds, first row {rows[0]}, and the chat template "
            "takes them off"
            + (
                f"; {indented:,} of them lose their indentation. Take a template without trim, if the model shall write it"
                if serious
                else ""
            ),
            of_row(context, rows[0]),
            {"rows": rows[:10], "answers": len(rows), "indented": indented},
            severity="warning" if serious else None,
        )


@check("TPL15", "info", "the template prints a date", Stage.DATA)
def date_printed(context: "CheckContext") -> Iterator[Found]:
    """The render says what day it is, or a day that the template has for want of one (Llama-3.1: 26 Jul 2024).

    A day that changes makes the training rows others on every day: a run that is continued tomorrow goes on with other data. That is a
    warning where the template takes date_string, which pins it (Llama-3.2); else an information.
    Do: `tuitune check --fix` gives every row chat_template_kwargs with the date of today as date_string.
    Known from: Llama-3.1 and 3.2, gpt-oss, Mistral-Small-3.1.
    """
    renders = context.renders
    if not any(name in renders.source.text for name in ("strftime_now", "date_string")):
        return
    moving: list[Shape] = []
    standing: list[Shape] = []
    pinnable = True
    for shape, _ in renders.rendered:
        first, second = (renders.on(day, shape.talk) for day in DAYS)
        pinned = renders.on(DAYS[0], shape.talk, date_string=PINNED)
        takes = PINNED in pinned and PINNED not in first
        if first != second:
            moving.append(shape)
            pinnable = pinnable and takes
        elif takes and "date_string" not in shape.talk.options:
            standing.append(shape)
    shapes = moving or standing
    if not shapes:
        return
    found = FORMAT.search(renders.source.text)
    today = date.today().strftime(found.group(1) if found else "%d %b %Y")
    fix = copied(context, f"a copy of the data that pins the date to {today}", shapes, "pin-date", automatic=bool(moving), date=today)
    if moving:
        how = "pin it with date_string in a column chat_template_kwargs" if pinnable else "this template offers no way to pin it"
        message = f"the chat template prints the day on which the rows are prepared, so that they are others tomorrow: {how}"
    else:
        message = "the chat template prints a date of its own; date_string in a column chat_template_kwargs would set it"
    yield Found(
        message,
        of_template(context),
        {"conversations": counted(shapes), "rows": rows_of(shapes), "pinnable": pinnable},
        fix if pinnable else None,
        "warning" if moving and pinnable else None,
    )
