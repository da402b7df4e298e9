"""What an inspection says, compact enough for the workbench to hold 256 rows of it, and as the JSON of `tuitune inspect` (DESIGN.md 4)."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

IGNORED = -100  # the label of a token that is not in the loss
PARTIAL = "partial"  # the token is a piece of a character


class Tokens(msgspec.Struct, frozen=True):
    """One row's part of one sequence that the trainer sees. All lists have one entry a token: `positions` in the sequence, `documents`
    number within the pack, `roles` and `sources` indices into Inspection.names. `name`: input, chosen or rejected."""

    name: str
    pack: int | None
    ids: list[int]
    labels: list[int]
    positions: list[int]
    documents: list[int]
    roles: list[int]
    sources: list[int]

    @property
    def trained(self) -> int:
        """How many tokens are in the loss."""
        return sum(label != IGNORED for label in self.labels)


class Row(msgspec.Struct, frozen=True):
    """`row` from 0 among all training rows; `status`: kept, truncated (some tokens are never trained on) or dropped."""

    row: int
    file: str
    line: int
    status: str
    sequences: list[Tokens]


class Inspection(msgspec.Struct, frozen=True):
    """`total` rows in the training set, `looked` of them were looked at, `rows` are those to show. `texts`: of every token id in them.
    `left_out`: a sentence for each row that is too long to be looked at."""

    total: int
    looked: int
    rows: list[Row]
    names: list[str]
    texts: dict[int, str]
    special: frozenset[int]
    left_out: list[str] = []

    @property
    def sampled(self) -> bool:
        """Whether only some of the rows were looked at."""
        return self.looked < self.total


def faults(inspection: Inspection, row: Row) -> list[str]:
    """What is wrong with a row, in words; empty when nothing is."""
    found = [] if row.status == "kept" else [row.status]
    if row.sequences and not any(tokens.trained for tokens in row.sequences):
        found.append("nothing in the loss")
    unknown = {index for index, name in enumerate(inspection.names) if "unknown" in name.split("+")}
    if any(not unknown.isdisjoint(tokens.roles) for tokens in row.sequences):
        found.append("roles unknown")
    return found


def as_json(inspection: Inspection) -> dict[str, Any]:
    """{"rows": […], "totals": {…}, "sampled": …, "left_out": […]}."""
    rows = [
        {
            "row": row.row,
            "file": row.file,
            "line": row.line,
            "status": row.status,
            "sequences": [
                {"name": tokens.name, "pack": tokens.pack, "tokens": list(_tokens(inspection, tokens))} for tokens in row.sequences
            ],
        }
        for row in inspection.rows
    ]
    return {"rows": rows, "totals": totals(inspection), "sampled": inspection.sampled, "left_out": inspection.left_out}


def _tokens(inspection: Inspection, tokens: Tokens) -> Iterator[dict[str, Any]]:
    columns = (tokens.ids, tokens.labels, tokens.positions, tokens.documents, tokens.roles, tokens.sources)
    for id, label, position, document, role, source in zip(*columns, strict=True):
        text = inspection.texts[id]
        yield {
            "id": id,
            "label": label,
            "text": text,
            "position": position,
            "document": document,
            "role": inspection.names[role],
            "source": inspection.names[source],
            "in_loss": label != IGNORED,
            "special": id in inspection.special,
            "flags": [PARTIAL] if "\N{REPLACEMENT CHARACTER}" in text else [],
        }


def totals(inspection: Inspection) -> dict[str, Any]:
    """Counts over the rows to show; `rows` is the size of the whole training set."""
    statuses = Counter(row.status for row in inspection.rows)
    runs = [tokens for row in inspection.rows for tokens in row.sequences]
    trained = Counter(
        inspection.names[role] for tokens in runs for role, label in zip(tokens.roles, tokens.labels, strict=True) if label != IGNORED
    )
    return {
        "rows": inspection.total,
        "shown": len(inspection.rows),
        "kept": statuses["kept"],
        "truncated": statuses["truncated"],
        "dropped": statuses["dropped"],
        "tokens": sum(len(tokens.ids) for tokens in runs),
        "trained_tokens": sum(trained.values()),
        "trained_by_role": dict(trained),
    }
