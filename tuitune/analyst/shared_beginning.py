"""Texts that begin alike are encoded once up to where they part.

TRL encodes a prompt, and then the prompt with its answer; and most rows begin with the same system prompt. A fast tokenizer cuts a text
at its added tokens before it does anything else, and treats the pieces apart: what stands behind `<|im_start|>` changes nothing of what
stands before it. So behind the last such token that two texts share, only the rest need be encoded. Where a tokenizer may do otherwise
nothing is shared (`borders`); tests/contract/test_shared_beginning.py compares with whole encodings, every survey compares with TRL's
own on a sample.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# What looks at one piece only. Metaspace asks whether a piece is the text's first, unless it always or never puts its blank.
PIECEWISE = frozenset(
    {
        "BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Punctuation", "Sequence", "Split", "UnicodeScripts",
        "Whitespace", "WhitespaceSplit", "Bert", "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled",
        "Prepend", "Replace", "Strip", "StripAccents",
    }
)  # fmt: skip


def borders(rust: Any) -> Mapping[int, str]:
    """id → text of the added tokens of a `tokenizers.Tokenizer` behind which it begins anew; none when that is not certain."""
    if rust.encode_special_tokens or not all(_piecewise(part) for part in (rust.normalizer, rust.pre_tokenizer)):
        return {}
    if rust.post_processor is not None and b'"trim_offsets":true' in rust.post_processor.__getstate__():
        return {}  # it gives the text's first blanks other places than later ones
    added = rust.get_added_tokens_decoder()
    if any(token.lstrip or token.rstrip or token.single_word for token in added.values()):
        return {}  # these look at what stands beside them
    texts = [token.content for token in added.values()]
    return {
        id: token.content
        for id, token in added.items()
        if not token.normalized and sum(token.content in text for text in texts) == 1  # else a longer one might be found in its place
    }


def _piecewise(part: Any) -> bool:
    """Whether a normalizer or pre-tokenizer treats a piece alike wherever it stands."""
    if part is None:
        return True
    try:
        return _known(json.loads(part.__getstate__()))
    except Exception:  # one that is written in Python has no description
        return False


def _known(description: Mapping[str, Any]) -> bool:
    kind = description.get("type")
    if kind == "Sequence":
        return all(_known(part) for part in description.get("pretokenizers", description.get("normalizers", [{}])))
    return kind in PIECEWISE or (kind == "Metaspace" and description.get("prepend_scheme") in ("always", "never"))


@dataclass(frozen=True)
class Joined:
    """What is asked of a `tokenizers.Encoding`, of one made of two: the first `count` tokens of `head`, which are `cut` characters, and
    all of `tail`."""

    head: Any
    count: int
    cut: int
    tail: Any

    @cached_property
    def ids(self) -> list[int]:
        """Token ids."""
        return [*self.head.ids[: self.count], *self.tail.ids]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(start, end) of each token in characters."""
        return [*self.head.offsets[: self.count], *((start + self.cut, end + self.cut) for start, end in self.tail.offsets)]

    n_sequences = 1

    def __len__(self) -> int:
        return self.count + len(self.tail)

    def char_to_token(self, at: int, sequence_index: int = 0) -> int | None:
        """Index of the token that this character is in."""
        if at < self.cut:
            return self.head.char_to_token(at)  # type: ignore[no-any-return]
        found = self.tail.char_to_token(at - self.cut)
        return None if found is None else int(found) + self.count

    def token_to_chars(self, at: int) -> tuple[int, int] | None:
        """(start, end) of a token in characters."""
        if at < self.count:
            return self.head.token_to_chars(at)  # type: ignore[no-any-return]
        found = self.tail.token_to_chars(at - self.count)
        return None if found is None else (found[0] + self.cut, found[1] + self.cut)


def shared(rust: Any, text: str, before: Sequence[tuple[str, Any]], borders: Mapping[int, str]) -> Any:
    """The encoding of `text` without special tokens; `before`: texts encoded the same way, with their encodings, the likeliest last."""
    for other, encoding in reversed(before) if borders else ():
        if (found := _beginning(text, other, encoding, borders)) is not None:
            count, cut = found
            while isinstance(encoding, Joined) and count <= encoding.count:  # else each row would hold on to all rows before it
                encoding = encoding.head
            return Joined(encoding, count, cut, rust.encode(text[cut:], add_special_tokens=False))
    return rust.encode(text, add_special_tokens=False)


def _beginning(text: str, other: str, encoding: Any, borders: Mapping[int, str]) -> tuple[int, int] | None:
    """(tokens, characters) up to the last border before `text` and `other` part; None when there is none. `encoding` is that of `other`."""
    alike = _alike(text, other)
    ids = encoding.ids
    last = encoding.char_to_token(alike - 1) if alike else -1
    for at in range(len(ids) - 1 if last is None else last, -1, -1):
        if ids[at] in borders:
            start, cut = encoding.token_to_chars(at)
            if cut <= alike and other[start:cut] == borders[ids[at]]:
                return at + 1, cut
    return None


def _alike(one: str, other: str) -> int:
    """Characters that two texts have in common from their beginning."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:  # a prompt, and the prompt with its answer
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
