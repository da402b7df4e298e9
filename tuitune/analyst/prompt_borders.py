"""Whether a token reaches from the end of a prompt into the beginning of its answer: a sample of the rows, as TRL encodes them."""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from trl.data_utils import common_prefix_length

SAMPLE = 100  # rows whose texts are looked at

Border = tuple[str, str]  # the prompt's last tokens when it is encoded alone, and the token that stands there in the whole


def chosen(rows: Sequence[Any]) -> list[int]:
    """A seeded sample of row numbers."""
    return sorted(Random(0).sample(range(len(rows)), min(SAMPLE, len(rows))))


def string_borders(tokenizer: Any, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Border | None]]:
    """(row, where a token reaches from the prompt into the answer, None when none does), of a sample of rows that are strings."""
    both = [row for row in chosen(rows) if isinstance(rows[row].get("prompt"), str) and isinstance(rows[row].get("completion"), str)]
    texts = [text for row in both for text in (rows[row]["prompt"], rows[row]["prompt"] + rows[row]["completion"])]
    return list(zip(both, token_borders(tokenizer, texts)))


def token_borders(tokenizer: Any, texts: Sequence[str], **options: Any) -> Iterator[Border | None]:
    """Of texts by twos, the first of which is the beginning of the second."""
    ids = tokenizer(texts, **options)["input_ids"] if texts else []
    for alone, whole in zip(ids[::2], ids[1::2]):
        at = common_prefix_length(alone, whole)
        yield None if at == len(alone) else (tokenizer.decode(alone[at:]), tokenizer.decode(whole[at : at + 1]))
