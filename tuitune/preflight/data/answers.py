"""What the answers say: always the same, what the prompt said already, or garbled (DAT18 to DAT20)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from tuitune.preflight.data.common import SHOWN, at, evidence, line, share
from tuitune.preflight.finding import Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawRow, RawSplit

FEW = 10  # rows below which shares say nothing
BEYOND_ASCII = re.compile(r"[^ \t\n\r\f\v]*[^\x00-\x7f][^ \t\n\r\f\v]*")
QUOTES = "“”‘’«»„–—…"
CONTROLS = [chr(code) for code in range(0x20) if chr(code) not in "\t\n\r"]


def prompt_and_answer(row: "RawRow", example: Mapping[str, Any]) -> tuple[str, str] | None:
    """The text before the last answer, and that answer; None for rows that have no such parts."""
    if "chosen" in example or "text" in example:
        return None
    if row.talks:
        turns = row.talks[0][1]
        last = max((number for number, turn in enumerate(turns) if turn.get("role") == "assistant"), default=None)
        if last is None or not isinstance(turns[last].get("content"), str):
            return None
        before = (turn.get("content") for turn in turns[:last])
        return "\n".join(text for text in before if isinstance(text, str)), str(turns[last]["content"])
    return (example["prompt"], example["completion"]) if isinstance(example.get("completion"), str) else None


def _parts(context: "CheckContext") -> "tuple[RawSplit, list[tuple[RawRow, str, str]]]":
    split = context.raw("train")
    parts = ((row, prompt_and_answer(row, example)) for row, example in split.fit)
    found = [(row, pair[0].strip(), pair[1].strip()) for row, pair in parts if pair]
    if len(found) < FEW:
        raise NotHere(f"fewer than {FEW} rows with prompt and answer")
    return split, found


@check("DAT18", "warning", "always the same answer", Stage.DATA)
def constant_answers(context: "CheckContext") -> Iterator[Found]:
    """More than half of the answers are one and the same: the model learns to say that and nothing else. A classification (at most 50
    different short answers, none in more than 80 % of the rows) is meant to be so.

    Do: look for the column that really is the answer, or thin these rows out.
    Known from: a constant column mapped by mistake; refusals that dominate.
    """
    split, parts = _parts(context)
    counts = Counter(answer for _, _, answer in parts)
    answer, times = counts.most_common(1)[0]
    classes = 1 < len(counts) <= 50 and all(len(text) <= 40 for text in counts)
    if not answer or times <= (0.8 if classes else 0.5) * len(parts):
        return
    rows = [row for row, _, text in parts if text == answer]
    yield Found(
        f"{share(times, len(parts))} have the same answer, {printable(repr(answer), limit=60)}: the model learns to say that and nothing "
        "else. Look whether the right column is trained, or thin these rows out",
        at(split, rows[0]),
        evidence(rows, len(parts), answer=printable(answer, limit=200), distinct=len(counts)),
    )


@check("DAT19", "warning", "the answer stands in the prompt", Stage.DATA)
def answer_in_prompt(context: "CheckContext") -> Iterator[Found]:
    """In more than a fifth of the rows the answer (more than 20 characters) stands in the prompt word for word: the model learns to copy.
    Tasks that are meant so, short passages out of a long text, are left alone unless the prompt ends with the answer.

    Do: look at the mapping; often the prompt column holds the whole example.
    Known from: `text` columns mapped as prompt.
    """
    split, parts = _parts(context)
    rows = [(row, prompt, answer) for row, prompt, answer in parts if len(answer) > 20 and answer in prompt]
    if len(rows) <= 0.2 * len(parts):
        return
    ends = sum(prompt.endswith(answer) for _, prompt, answer in rows)
    length, room = median(len(answer) for _, _, answer in rows), median(len(prompt) for _, prompt, _ in rows)
    if ends <= len(rows) / 2 and length < 120 and length < 0.25 * room:  # extraction
        return
    yield Found(
        f"in {share(len(rows), len(parts))} the answer stands in the prompt word for word, the first at {line(rows[0][0])}: the model "
        "learns to copy. Look whether the prompt's column holds the whole example",
        at(split, rows[0][0]),
        evidence([row for row, _, _ in rows], len(parts)),
    )


@check("DAT20", "warning", "garbled characters", Stage.DATA)
def mojibake(context: "CheckContext") -> Iterator[Found]:
    """Texts hold words that were decoded wrongly (UTF-8 read as Windows-1252: Ã¼ for ü), U+FFFD, which stands for a lost character, or
    control characters. A word is garbled when its Windows-1252 bytes are shorter UTF-8; words such as AÇÃO are not.

    Do: read the source again with the right encoding; what was lost cannot be brought back.
    Known from: files that were converted twice.
    """
    for split in context.raw_splits:
        rows: dict[int, RawRow] = {}
        kinds: Counter[str] = Counter()
        examples: list[str] = []
        for row, _ in split.fit:
            for kind, word in garbled(row.content):
                kinds[kind] += 1
                if row.row not in rows:
                    rows[row.row] = row
                    examples.append(word)
        if rows:
            first = next(iter(rows.values()))
            told = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
            yield Found(
                f"{share(len(rows), len(split.rows))} hold {told}, the first at {line(first)} ({printable(examples[0], limit=40)}): the "
                "model learns them as they stand. Read the source again with the right encoding",
                at(split, first),
                evidence(
                    list(rows.values()), len(split.rows), kinds=dict(kinds), examples=[printable(w, limit=60) for w in examples[:SHOWN]]
                ),
            )


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a row in TRL's shape, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item)


def garbled(text: str) -> Iterator[tuple[str, str]]:
    """(what it is, the word) of everything garbled in a text."""
    for char in CONTROLS:
        if char in text:
            yield "control characters", repr(char)
    if text.isascii():
        return
    for match in BEYOND_ASCII.finditer(text):
        word = match[0]
        if "\ufffd" in word:
            yield "lost characters (U+FFFD)", word
        elif _is_mojibake(word) or _is_mojibake(word.strip(QUOTES)):
            yield "wrongly decoded words", word


def _is_mojibake(word: str) -> bool:
    try:
        decoded = b"".join(map(_windows_byte, word)).decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return False
    return len(decoded) < len(word)


def _windows_byte(char: str) -> bytes:
    """A character's byte in Windows-1252; the five bytes that it leaves free stand for themselves, as in browsers."""
    try:
        return char.encode("cp1252")
    except UnicodeEncodeError:
        return char.encode("latin-1")
