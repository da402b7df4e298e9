"""Conversations: who speaks, in which order, and what is said (DAT09 to DAT12)."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from re import escape, finditer
from typing import TYPE_CHECKING, Any

from tuitune.dataset.columns import ROLES
from tuitune.preflight.data.common import SHOWN, at, evidence, leave_out, line, rewrite, share
from tuitune.preflight.finding import Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawRow, RawSplit

KNOWN = {"system", "developer", "user", "assistant", "tool"}
SPOKEN = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")


@check("DAT09", "warning", "no answer to learn from", Stage.DATA)
def no_assistant_turn(context: "CheckContext") -> Iterator[Found]:
    """A conversation has no turn of the assistant, or does not end with one: with assistant_only_loss TRL stops at a row without one,
    otherwise the model learns to ask instead of to answer.

    Do: leave these rows out, or correct the roles.
    Known from: RuntimeError "at least one example has no assistant tokens" (TRL 1.16, while tokenising).
    """
    if context.method.rewarded:
        raise NotHere("the model writes the answers itself")
    strict = bool(context.training.get("assistant_only_loss"))
    for split in context.raw_splits:
        without, open_end = [], []
        for row, example in split.fit:
            if "chosen" in example or not row.talks:
                continue
            turns = example["completion"] if "completion" in example else row.talks[0][1]
            roles = [plain_role(turn.get("role")) for turn in turns] if isinstance(turns, list) else []
            if "assistant" not in roles:
                without.append(row)
            elif roles[-1] != "assistant":
                open_end.append(row)
        if without:
            yield Found(
                f"{share(len(without), len(split.rows))} have no turn of the assistant, the first at {line(without[0])}: "
                + ("assistant_only_loss stops the run there" if strict else "there is no answer to learn from")
                + ". Leave these rows out, or correct the roles",
                at(split, without[0]),
                evidence(without, len(split.rows)),
                leave_out(split, without, "without an answer"),
                "error" if strict or len(without) > 0.2 * len(split.rows) else "warning",
            )
        if open_end:
            yield Found(
                f"{share(len(open_end), len(split.rows))} do not end with the assistant's turn, the first at {line(open_end[0])}: what "
                "comes after the last answer is trained without one, or not at all. Leave these rows out, or cut them",
                at(split, open_end[0]),
                evidence(open_end, len(split.rows)),
                leave_out(split, open_end, "that end without an answer"),
            )


def plain_role(role: Any) -> str:
    """The role that is meant: of other letters, or by the name that other tools give it."""
    plain = str(role).strip().lower()
    return ROLES.get(plain, plain)


@check("DAT10", "warning", "roles out of order", Stage.DATA)
def roles(context: "CheckContext") -> Iterator[Found]:
    """A turn has no role or one that nobody knows (human, gpt, bot, model and chatgpt are taken as user and assistant), two turns in a
    row have the same role, the system speaks in the middle, or a tool answers that nobody called: templates fail on such rows, print
    them without a header, or the model learns an order that it never meets.

    Do: --fix writes the usual role names; joining turns of one role is proposed.
    Known from: TemplateError 'must alternate' (Gemma, Mistral), roles that vanish (Qwen3).
    """
    for split in context.raw_splits:
        yield from _without_role(split)
        cases: dict[str, dict[int, tuple[RawRow, str]]] = defaultdict(dict)
        for row, _ in split.fit:
            for _, turns in row.talks:
                for case, detail in _disorder(turns):
                    cases[case].setdefault(row.row, (row, detail))
        for case, found in cases.items():
            yield from _ROLE_FINDINGS[case](context, split, [row for row, _ in found.values()], [detail for _, detail in found.values()])


def _disorder(turns: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(case, role) of everything that is out of order in a conversation."""
    called = False
    for number, turn in enumerate(turns):
        role = str(turn.get("role"))
        before = turns[number - 1] if number else {}
        if role not in KNOWN:
            yield "unknown", role
        if role == before.get("role") and role not in ("tool", "system") and not any(side.get("tool_calls") for side in (turn, before)):
            yield "same", role
        if role == "system" and number:
            yield "system", role
        if role == "tool" and not called:
            yield "tool", role
        content = turn.get("content")
        called |= bool(turn.get("tool_calls") or turn.get("function_call")) or (isinstance(content, str) and "call" in content.lower())


def _unknown(context: "CheckContext", split: "RawSplit", rows: "list[RawRow]", names: list[str]) -> Iterator[Found]:
    template = context.template_source
    strange = [(row, name) for row, name in zip(rows, names) if f"'{name}'" not in template and f'"{name}"' not in template]
    if not strange:
        return
    counts = Counter(name for _, name in strange)
    variants = all(plain_role(name) in KNOWN for name in counts)
    found = [row for row, _ in strange]
    shown = ", ".join(printable(repr(name), limit=40) for name, _ in counts.most_common(5))
    yield Found(
        f"{share(len(strange), len(split.rows))} have a role that is neither {', '.join(sorted(KNOWN))}, nor named in the chat "
        f"template: {shown}, the first at {line(found[0])}. Templates leave such turns out "
        "or print a header the model does not know; rename the roles",
        at(split, found[0]),
        evidence(found, len(split.rows), roles=dict(counts.most_common(SHOWN))),
        rewrite(split, found, "Train on a copy of the data with the usual role names", "roles", automatic=True) if variants else None,
        "error" if variants else "warning",
    )


def _same(context: "CheckContext", split: "RawSplit", rows: "list[RawRow]", names: list[str]) -> Iterator[Found]:
    yield Found(
        f"{share(len(rows), len(split.rows))} have two turns of the same role in a row ({', '.join(sorted(set(names)))}), the first at "
        f"{line(rows[0])}: templates that want them to alternate fail there. Join these turns",
        at(split, rows[0]),
        evidence(rows, len(split.rows), roles=sorted(set(names))),
        rewrite(split, rows, "Train on a copy of the data with such turns joined", "merge-turns", automatic=False),
    )


def _late_system(context: "CheckContext", split: "RawSplit", rows: "list[RawRow]", names: list[str]) -> Iterator[Found]:
    yield Found(
        f"{share(len(rows), len(split.rows))} have a system turn that is not the first, the first at {line(rows[0])}: most templates fail "
        "on it or leave it out. Move it to the beginning, or leave these rows out",
        at(split, rows[0]),
        evidence(rows, len(split.rows)),
        leave_out(split, rows, "with a late system turn"),
    )


def _tool(context: "CheckContext", split: "RawSplit", rows: "list[RawRow]", names: list[str]) -> Iterator[Found]:
    yield Found(
        f"{share(len(rows), len(split.rows))} have the answer of a tool that was not called, the first at {line(rows[0])}. Give the "
        "assistant's turn before it its tool_calls, or leave these rows out",
        at(split, rows[0]),
        evidence(rows, len(split.rows)),
        leave_out(split, rows, "with an uncalled tool's answer"),
    )


_ROLE_FINDINGS = {"unknown": _unknown, "same": _same, "system": _late_system, "tool": _tool}


def _without_role(split: "RawSplit") -> Iterator[Found]:
    def lacks(row: "RawRow") -> bool:
        value = row.data.get((split.sources[row.source].columns or {}).get("messages", ""))
        turns = [turn for turn in value if isinstance(turn, dict)] if isinstance(value, list) else []
        return any(not isinstance(turn.get("role", turn.get("from")), str) for turn in turns)

    rows = [row for row in split.rows if row.example is None and lacks(row)]
    if rows:
        yield Found(
            f"{share(len(rows), len(split.rows))} have a turn without a role, the first at {line(rows[0])}: the run stops there. Give "
            "every turn its role, or leave these rows out",
            at(split, rows[0]),
            evidence(rows, len(split.rows)),
            leave_out(split, rows, "with a turn without a role"),
            "error",
        )


@check("DAT11", "warning", "empty answers", Stage.DATA)
def empty_content(context: "CheckContext") -> Iterator[Found]:
    """An answer is empty (a turn that calls tools or holds reasoning may be): the model learns to say nothing.

    More than 1 % of the rows is a warning, more than 20 % an error.
    Do: leave these rows out.
    Known from: empty `output` columns of converted data sets.
    """
    for split in context.raw_splits:
        rows = [row for row, example in split.fit if any(_says_nothing(answer) for answer in _answers(row, example))]
        if len(rows) > 0.01 * len(split.fit):
            yield Found(
                f"{share(len(rows), len(split.fit))} have an empty answer, the first at {line(rows[0])}: the model learns to say nothing. "
                "Leave these rows out",
                at(split, rows[0]),
                evidence(rows, len(split.fit)),
                leave_out(split, rows, "with an empty answer"),
                "error" if len(rows) > 0.2 * len(split.fit) else "warning",
            )


def _answers(row: "RawRow", example: Mapping[str, Any]) -> Iterator[Any]:
    """Turns of the assistant, and texts that are learnt."""
    for _, turns in row.talks:
        yield from (turn for turn in turns if turn.get("role") == "assistant")
    yield from (example[name] for name in ("completion", "text", "chosen", "rejected") if isinstance(example.get(name), str))


def _says_nothing(answer: Any) -> bool:
    if isinstance(answer, Mapping):
        content = answer.get("content")
        return not any(answer.get(name) for name in SPOKEN) and isinstance(content, str) and not content.strip()
    return not answer.strip()


@check("DAT12", "warning", "control tokens inside texts", Stage.DATA)
def control_tokens_in_text(context: "CheckContext") -> Iterator[Found]:
    """What a user, a tool or the system says holds the text of a token of its own (<|im_end|>, <think>), and the tokenizer makes that
    token of it: to the model the turn ends there, or another one begins. In answers such tokens may be meant, and are not told.

    Do: look at these rows; take the marker apart (a blank inside it is enough) or leave them out.
    Known from: transformers#29279, #47822 (sanitize_control_tokens, which TRL does not use).
    """
    tokenizer, template = context.loaded_tokenizer, context.template_source
    added = {str(token): (id, token.special) for id, token in tokenizer.added_tokens_decoder.items()}
    added = {text: found for text, found in added.items() if text not in context.brought_tokens}  # an earlier run's own, and meant
    special = {text for text, (_, marked) in added.items() if marked}
    # of the others only those that the template uses: Gemma has HTML tags, which are words like any other
    tokens = {text: id for text, (id, _) in added.items() if len(text) > 2 and not text.isspace() and (text in special or text in template)}
    hits = _finder(tokens)
    for split in context.raw_splits:
        found: dict[str, list[RawRow]] = defaultdict(list)
        for row, _ in split.fit:
            for role, text in _said(row):
                for token in hits(text):
                    meant = role == "system" and token not in special  # a system text may speak of <tool_call>
                    if not meant and (not found[token] or found[token][-1] is not row):
                        found[token].append(row)
        rows = {row.row: row for token, those in found.items() for row in those if _encoded(tokenizer, row, token, tokens[token])}
        if rows:
            first = rows[min(rows)]
            names = [token for token, those in found.items() if any(row.row in rows for row in those)]
            yield Found(
                f"{share(len(rows), len(split.rows))} have {', '.join(printable(name, limit=40) for name in names[:5])} inside what the "
                f"user, a tool or the system says, the first at {line(first)}: it becomes a control token there, as if a turn ended or "
                "began. Take the marker apart, or leave these rows out",
                at(split, first),
                evidence(list(rows.values()), len(split.rows), tokens=names[:SHOWN]),
            )


def _finder(tokens: Mapping[str, int]) -> Any:
    """text → the tokens that stand in it. By their first two characters, which hardly ever stand in a text."""
    beginnings: dict[str, list[str]] = defaultdict(list)
    for token in sorted(tokens, key=len, reverse=True):
        beginnings[token[:2]].append(token)
    pattern = "|".join(escape(beginning) for beginning in beginnings) or r"(?!)"

    def hits(text: str) -> set[str]:
        places = ((match.start(), match[0]) for match in finditer(pattern, text))
        firsts = (next((token for token in beginnings[start] if text.startswith(token, place)), None) for place, start in places)
        return {token for token in firsts if token}

    return hits


def _said(row: "RawRow") -> Iterator[tuple[str, str]]:
    """(role, text) of all that is not the assistant's."""
    for _, turns in row.talks:
        for turn in turns:
            content = turn.get("content")
            if turn.get("role") != "assistant" and isinstance(content, str):
                yield str(turn.get("role")), content


def _encoded(tokenizer: Any, row: "RawRow", token: str, id: int) -> bool:
    return any(token in text and id in tokenizer(text, add_special_tokens=False)["input_ids"] for _, text in _said(row))
