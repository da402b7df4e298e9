"""What `template` says about a recipe's chat template: its source, renders of the rows, prefix test, comparison, markers. Plain data."""

from typing import Any

import msgspec

from tuitune.template.spans import Span


class Source(msgspec.Struct, frozen=True):
    """A template's text, where it comes from in words, and the sha256 of the text in hex."""

    text: str
    origin: str
    sha256: str
    generation: bool  # whether it says what the assistant writes ({% generation %})


class Difference(msgspec.Struct, frozen=True):
    """The first place where two things differ: `at` counts characters or tokens from 0; `one` and `other` are what stands there."""

    at: int
    one: str
    other: str


class Fault(msgspec.Struct, frozen=True):
    """A turn that fails the prefix test. turn: from 1, the one that is added. test: "turns" (the render without it is the beginning of
    the one with it) or "prompt" (the same with the generation prompt). level: "text" or "tokens"."""

    turn: int
    test: str
    level: str
    difference: Difference


class Turn(msgspec.Struct, frozen=True):
    """end: characters of the whole render that are the render of the turns up to this one; prompt: of those before it with the generation
    prompt; None where that is not the beginning of the whole render. alone: the render up to this turn where it is not. refused: why the
    template does not render the turns up to this one."""

    role: str
    end: int | None = None
    prompt: int | None = None
    alone: str | None = None
    refused: str | None = None


class Conversation(msgspec.Struct, frozen=True):
    """One rendered conversation of a row. name: input, chosen or rejected. error: why it cannot be rendered, `text` is "" then.
    deaf: with a generation prompt asked for, the same is printed. answers: (start, end) of the characters that the assistant has to
    write itself, None where that is not proven. left_out: characters
    that are not shown because there are too many; tokens are not counted and spans unknown then."""

    name: str
    text: str = ""
    tokens: int | None = None
    spans: list[Span] = []
    turns: list[Turn] = []
    faults: list[Fault] = []
    deaf: bool = False
    answers: list[tuple[int, int]] | None = None
    error: str | None = None
    left_out: int = 0


class RenderedRow(msgspec.Struct, frozen=True):
    """`row` from 0 among all training rows."""

    row: int
    file: str
    line: int
    conversations: list[Conversation]


class ComparedRow(msgspec.Struct, frozen=True):
    """One conversation through two templates. `render`: the other's, "" where it equals ours; `error`: which of the two fails, and why."""

    row: int
    name: str
    text: Difference | None = None
    ids: Difference | None = None
    render: str = ""
    error: str | None = None

    @property
    def equal(self) -> bool:
        """Whether text and ids are the same."""
        return self.text is None and self.ids is None and self.error is None


class Comparison(msgspec.Struct, frozen=True):
    """Ours against `other`: the sources as a unified diff, and every conversation looked at."""

    other: Source
    patch: str
    rows: list[ComparedRow]


class Marking(msgspec.Struct, frozen=True):
    """The template with {% generation %} in it. `refused` is the reason why there is none, `text` "" then. proven: of `total`
    conversations, those on which the render is the same and the mask is what the assistant writes; masked: tokens in the mask, over
    `turns` of the assistant. without_end: those of them without an end-of-turn token. unreached: lines that no row
    prints anything of, so that they stay as they are."""

    text: str = ""
    patch: str = ""
    refused: str | None = None
    total: int = 0
    proven: int = 0
    masked: int = 0
    turns: int = 0
    without_end: int = 0
    unreached: list[int] = []


class TemplateReport(msgspec.Struct, frozen=True):
    """`total` rows in the training set, `looked` of them were rendered, `rows` are those to show. note: why there are none."""

    source: Source
    total: int
    looked: int
    rows: list[RenderedRow]
    note: str | None = None
    comparison: Comparison | None = None
    marking: Marking | None = None


def prefix_totals(rows: list[RenderedRow]) -> dict[str, Any]:
    """Counts of the prefix test: conversations and turns tested, those that fail, and conversations that cannot be rendered at all."""
    talks = [talk for row in rows for talk in row.conversations]
    faults = [fault for talk in talks for fault in talk.faults]
    return {
        "conversations": len(talks),
        "turns": sum(len(talk.turns) for talk in talks),
        "failing_conversations": sum(bool(talk.faults) for talk in talks),
        "failing_turns": sum(fault.test == "turns" for fault in faults),
        "failing_prompts": sum(fault.test == "prompt" for fault in faults),
        "not_rendered": sum(talk.error is not None for talk in talks),
    }


def compared_totals(comparison: Comparison) -> dict[str, int]:
    """Counts of conversations that are equal, that differ in text, in ids, and that the other template refuses."""
    return {
        "equal": sum(row.equal for row in comparison.rows),
        "different": sum(not row.equal for row in comparison.rows),
        "different_text": sum(row.text is not None for row in comparison.rows),
        "different_ids": sum(row.ids is not None for row in comparison.rows),
        "not_rendered": sum(row.error is not None for row in comparison.rows),
    }


def as_json(report: TemplateReport) -> dict[str, Any]:
    """The document of `tuitune template --json`, without "schema"."""
    found: dict[str, Any] = {
        "template": msgspec.to_builtins(report.source),
        "rows": msgspec.to_builtins(report.rows),
        "prefix": prefix_totals(report.rows),
        "total": report.total,
        "looked": report.looked,
        "sampled": report.looked < report.total,
        "note": report.note,
    }
    if report.comparison is not None:
        found["diff"] = {**msgspec.to_builtins(report.comparison), "totals": compared_totals(report.comparison)}
    if report.marking is not None:
        found["generation"] = msgspec.to_builtins(report.marking)
    return found
