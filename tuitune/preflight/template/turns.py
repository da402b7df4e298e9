"""Checks of turns that the template refuses, and of texts that it leaves out; asked of one conversation of every shape."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuitune.preflight.data_steps import is_talk
from tuitune.preflight.finding import Fix, Found, Where
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.template.causes import KNOWN, SYSTEM, TOOLS, known_role
from tuitune.preflight.template.places import copied, copy_of_files, counted, new_template, of_row, rows_of
from tuitune.template.prefix import ASSISTANT
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.rendered_rows import Shape
    from tuitune.template.words import Word


def _found(
    context: "CheckContext", shapes: Sequence["Shape"], message: str, fix: Fix | None = None, severity: Any = None, **evidence: Any
) -> Found:
    """A finding about all rows of these shapes, at the first of them. `message` begins behind the number of rows."""
    first = shapes[0]
    count, split = counted(shapes), "" if first.split == "train" else f" of dataset.{first.split}"
    start = f"{count:,} conversation{'s' * (count != 1)}{split}, first row {first.rows[0]}: "
    where = of_row(context, first.rows[0], first.split)
    return Found(f"{start}{message}", where, {"conversations": count, "rows": rows_of(shapes), **evidence}, fix, severity)


def _refused(context: "CheckContext", id: str) -> tuple[list["Shape"], str]:
    """The shapes that the template refuses for the reason that this check tells, and what it says of the first."""
    mine = [(shape, error) for shape, error, ids in context.renders.explained if id in ids]
    said = printable(" ".join(str(mine[0][1]).split()), limit=160) if mine else ""
    return [shape for shape, _ in mine], said


def _lost(context: "CheckContext", wanted: Any) -> list["Shape"]:
    """Shapes of which the template leaves out a text that is `wanted` (a word and its turn)."""
    return [shape for shape, words in context.renders.unprinted if any(wanted(word, shape.talk.turns[word.turn]) for word in words)]


@check("TPL07", "warning", "reasoning that the template leaves out", Stage.DATA)
def reasoning_dropped(context: "CheckContext") -> Iterator[Found]:
    """The reasoning of an answer (<think>…</think>, reasoning_content, reasoning, thinking) is not in the render: it is not trained.

    The stock template of Qwen3 keeps it only behind the last question; those of Llama and Gemma know no reasoning_content at all.
    Do: one row for each answer, so that each stands behind the last question; or a template that keeps it (TRL has training variants).
    Where the template knows no reasoning, put it into the content.
    Known from: ms-swift#4939, LlamaFactory#8634, trl#6361.
    """
    renders = context.renders
    shapes = [
        shape for shape, words in renders.unprinted if any(word.source == "reasoning" and word.turn >= shape.prompt for word in words)
    ]
    if shapes:
        yield _found(
            context,
            shapes,
            "the chat template leaves out the reasoning of answers, so it is not trained. Make one row of each answer, take a template "
            "that keeps the reasoning, or put it into the content",
            _with_reasoning(context, shapes),
        )


def _with_reasoning(context: "CheckContext", shapes: Sequence["Shape"]) -> Fix | None:
    """TRL's variant where it keeps the reasoning; else one row an answer, where the template keeps that of the last one."""
    renders = context.renders
    variant = renders.variant()

    def keeps(shape: "Shape", template: str | None, parts: bool) -> bool:
        ends = [at + 1 for at, turn in enumerate(shape.talk.turns) if turn.get("role") == ASSISTANT] if parts else [len(shape.talk.turns)]
        lost = [(end, word) for end in ends for word in renders.words_lost(renders.until(shape.talk, end), template)]
        return not any(word.source == "reasoning" and word.turn >= (end - 1 if parts else shape.prompt) for end, word in lost)

    if variant is not None and all(keeps(shape, variant.text, parts=False) for shape in shapes):
        return new_template(context, "write TRL's training variant of the template, which keeps it, and use it", variant.text, "training")
    if all("messages" in mapping for mapping in context.train.columns) and all(keeps(shape, None, parts=True) for shape in shapes):
        return copied(context, "a copy of the data with one row for each answer, with its reasoning", shapes, "split-reasoning")
    return None


@check("TPL08", "error", "tool calls that the template leaves out", Stage.DATA)
def tools_dropped(context: "CheckContext") -> Iterator[Found]:
    """A tool's name, an argument, or what the tool returned is not in the render, or the template refuses such turns.

    The stock templates of Llama-3, Gemma and DeepSeek-V3 print none or some of it. Text beside a tool call that is not printed (Llama-3.1),
    and definitions of tools that make no difference to the render, are warnings.
    Do: take a template that knows tools (Qwen, Llama-3.1, gpt-oss) in tokenizer.chat_template, or leave these rows out.
    Known from: trl.chat_template_utils.supports_tool_calling, transformers#45419 (arguments as a JSON string).
    """
    refused, said = _refused(context, "TPL08")
    remedy = "take a template that knows tools in tokenizer.chat_template, or leave these rows out"
    if refused:
        yield _found(
            context,
            refused,
            f"the chat template refuses tool calls or what tools return ({said}): the run stops there; {remedy}",
            said=said,
        )
    calls = _lost(context, lambda word, turn: word.source == "tool_calls" or (word.source == "content" and word.role in TOOLS))
    if calls:
        yield _found(
            context, calls, f"the chat template leaves out tool calls or what tools return, so the model never sees them; {remedy}"
        )
    beside = _lost(context, lambda word, turn: word.source == "content" and bool(turn.get("tool_calls")))
    if beside:
        yield _found(
            context,
            beside,
            "the chat template leaves out what the assistant says beside a tool call, so it is not trained: make a turn of its own of "
            "it, or take another template",
            severity="warning",
        )
    renders = context.renders
    unseen = [shape for shape, text in renders.rendered if shape.talk.options.get("tools") and renders.without_tools(shape.talk) == text]
    if unseen:
        yield _found(
            context,
            unseen,
            "the chat template does not print the definitions of the tools, so the model never sees what it may call: take a template "
            "that knows tools in tokenizer.chat_template, or leave the column out",
            severity="warning",
        )


@check("TPL09", "error", "the template refuses system turns", Stage.DATA)
def system_refused(context: "CheckContext") -> Iterator[Found]:
    """The template raises on a system turn, and with it the whole run stops. Those of Gemma 1 and 2 do.

    Do: put the system text in front of the first question; the proposed copy of the data has it there.
    Known from: google/gemma-2b-it ("System role not supported").
    """
    shapes, said = _refused(context, "TPL09")
    if shapes:
        yield _found(
            context,
            shapes,
            f"the chat template refuses system turns ({said}): the run stops there. Put the system text in front of the first question",
            copied(context, "a copy of the data with the system text in front of the first question", shapes, "system-into-user"),
            said=said,
        )


@check("TPL10", "error", "the template wants user and assistant in turn", Stage.DATA)
def alternation(context: "CheckContext") -> Iterator[Found]:
    """The template raises where two turns of one role follow each other, or where a conversation does not begin with the user.

    Every sequence of roles that the data has was tried.
    Do: join turns of one role that follow each other; the proposed copy of the data has them joined by an empty line.
    Known from: Gemma, Llama-2, Mistral ("Conversation roles must alternate").
    """
    shapes, said = _refused(context, "TPL10")
    if shapes:
        joined = all(context.renders.mended(shape.talk, "TPL10") for shape in shapes)
        title = "a copy of the data with turns of one role that follow each other joined by an empty line"
        yield _found(
            context,
            shapes,
            f"the chat template wants user and assistant in turn ({said}), and these have {_roles(shapes[0])}: the run stops there. Join "
            "turns of one role that follow each other, and begin with the user",
            copied(context, title, shapes, "merge-turns") if joined else None,
            said=said,
            roles=[turn.get("role") for turn in shapes[0].talk.turns],
        )


def _roles(shape: "Shape") -> str:
    return printable(", ".join(str(turn.get("role")) for turn in shape.talk.turns), limit=120)


@check("TPL11", "error", "turns that the template leaves out, or roles it does not know", Stage.DATA)
def unknown_role(context: "CheckContext") -> Iterator[Found]:
    """The text of a turn is not in the render, mostly because of its role; or the template prints a role's name that no model knows.

    With human and gpt the template of Qwen3 prints nothing at all, that of DeepSeek only the first token, that of Llama-3 a header
    "human". tuitune itself reads human, gpt, bot, model and chatgpt as user and assistant; written in another way (Human, GPT) it does not.
    Do: write user, assistant, system or tool; `tuitune check --fix` writes a copy of the data with such roles.
    Known from: Megatron-Bridge#5078.
    """
    refused, said = _refused(context, "TPL11")
    wrong = [shape for shape, _ in context.renders.rendered if any(_misnamed(turn.get("role")) for turn in shape.talk.turns)]
    if refused or wrong:
        shapes = [*refused, *wrong]
        names = sorted({str(turn["role"]) for shape in shapes for turn in shape.talk.turns if turn.get("role") not in KNOWN})
        reason = f" ({said})" if said else ""
        yield _found(
            context,
            shapes,
            f"the chat template does not know the role {', '.join(printable(repr(name), limit=40) for name in names)}{reason}: such "
            "turns are left out, or stand under a header that no model knows. Write user, assistant, system or tool",
            copied(context, "a copy of the data with the roles user and assistant", shapes, "roles", automatic=True)
            if all(known_role(name) in KNOWN for name in names)
            else None,
            roles=names,
        )
    told = {id(shape) for shape in wrong}
    vanished = [
        (shape, word)
        for shape, words in context.renders.unprinted
        if id(shape) not in told
        for word in words
        if _whole_turn(word, shape.talk.turns)
    ]
    for role in dict.fromkeys(word.role for _, word in vanished):
        mine = list({id(shape): shape for shape, word in vanished if word.role == role}.values())
        system = role in SYSTEM
        yield _found(
            context,
            mine,
            f"the chat template leaves out what {printable(repr(role), limit=40)} says: the model is trained without it. "
            + ("Put the system text in front of the first question" if system else "Write user, assistant, system or tool for the role"),
            copied(context, "a copy of the data with the system text in front of the first question", mine, "system-into-user")
            if role == "system"
            else None,
            role=role,
        )


def _misnamed(role: Any) -> bool:
    """Whether a role is another name of one that templates know."""
    return role not in KNOWN and known_role(role) in KNOWN


def _whole_turn(word: "Word", turns: Collection[Any]) -> bool:
    """Whether a text that is left out is a turn's own, of which no other check tells."""
    turn = list(turns)[word.turn]
    return word.source == "content" and word.role not in TOOLS and not turn.get("tool_calls")


@check("TPL17", "info", "turns without content", Stage.DATA)
def null_content(context: "CheckContext") -> Iterator[Found]:
    """A turn's content is null or not there, as tool calls are often written. transformers 5 takes keys without a value away before it
    renders, and templates such as those of Qwen3 and DeepSeek then fail.

    tuitune reads such a content as "", so that nothing fails here; other programs that read the same file do.
    Do: nothing for this run; the proposed copy of the data has "" there.
    Known from: transformers 5 (UndefinedError: no attribute 'content').
    """
    found = [(split.name, row) for split in context.raw_splits for row in split.rows if _says_nothing(row.data)]
    if not found:
        return
    split, first = found[0]
    files: dict[str, set[str]] = {}
    for name, row in found:
        files.setdefault(name, set()).add(row.file)
    yield Found(
        f"in {len(found):,} rows, first row {first.row}, a turn has no content (null): tuitune trains it as an empty text, other programs "
        'fail on such rows; write "" there if they shall read the file too',
        Where(first.file, first.line, split=split, row=first.row, view="dataset"),
        {"rows": [row.row for _, row in found[:10]], "count": len(found)},
        copy_of_files(context, 'a copy of the data with "" for content that is not there', files, "null-content"),
    )


def _says_nothing(data: Mapping[str, Any]) -> bool:
    """Whether a turn of a row, as it stands in its file, has no content."""
    turns = [turn for value in data.values() if is_talk(value) for turn in value if "role" in turn or "from" in turn]
    return any(turn.get("content", turn.get("value")) is None for turn in turns)
