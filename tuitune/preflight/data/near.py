"""Which texts are nearly the same, and which stand word for word in others: MinHash over word 3-grams, numpy only.

Texts are compared lower-cased and without punctuation. 10,000 texts of 130 words take some 0.6 s. (Broder 1997; bands as in
Leskovec et al., Mining of Massive Datasets, 3.4.)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.8  # Jaccard similarity of the 3-grams from which on two texts are nearly the same
GRAM = 3
QUOTE = 8  # words from which on a text that stands in another is no accident
BANDS, ROWS = 8, 4  # of the signature: two texts of similarity 0.8 meet in a band with 98 %
TRIED = 3  # texts of a bucket that one is compared with
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")  # of Chinese and Japanese each character is a word
_BLANKS = str.maketrans({chr(code): " " for code in range(128) if not chr(code).isalnum()})

Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
_MIX = np.random.default_rng(0).integers(1, 2**63, QUOTE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_MULTIPLY = np.random.default_rng(1).integers(1, 2**31, BANDS * ROWS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_SHIFT = np.random.default_rng(2).integers(1, 2**32, BANDS * ROWS, dtype=np.uint32)


class WordBook(dict[str, int]):
    """A number for every word, in the order in which they come; texts whose words come from one book can be compared."""

    def __missing__(self, word: str) -> int:
        self[word] = len(self) + 1
        return self[word]

    def words(self, texts: Sequence[str]) -> "Words":
        """The words of texts."""
        ids: list[int] = []
        lengths = []
        for text in texts:
            plain = text.lower()
            found = plain.translate(_BLANKS).split() if plain.isascii() else WORD.findall(plain)
            ids += map(self.__getitem__, found)
            lengths.append(len(found))
        return Words(np.array(ids, dtype=np.int64), _begins(np.array(lengths, dtype=np.int64)))


@dataclass
class Words:
    """Texts as numbers of words: those of all texts one after the other, and where each text begins (one entry more than texts)."""

    ids: Numbers
    starts: Numbers

    def __add__(self, more: "Words") -> "Words":
        return Words(np.concatenate([self.ids, more.ids]), np.concatenate([self.starts, more.starts[1:] + self.starts[-1]]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def text(self, number: int) -> Numbers:
        """The words of one text."""
        return self.ids[self.starts[number] : self.starts[number + 1]]

    def grams(self, size: int) -> "tuple[Hashes, Numbers]":
        """Hashes of `size` words in a row, of all texts, and where each text's begin. A shorter text is one gram as it is."""
        lengths = np.diff(self.starts)
        short = np.maximum(size - lengths, 0)
        padded = np.zeros(int((lengths + short).sum()), dtype=np.uint64)
        begins = _begins(lengths + short)
        padded[_ranges(begins[:-1], lengths)] = self.ids.astype(np.uint64)
        counts = lengths + short - size + 1
        places = _ranges(begins[:-1], counts)
        hashes = np.zeros(len(places), dtype=np.uint64)
        for at in range(size):
            hashes = (hashes ^ padded[places + at]) * _MIX[at]
            hashes ^= hashes >> np.uint64(29)
        return hashes, _begins(counts)


@dataclass
class Shingles:
    """The 3-grams of texts and their signatures, (texts, BANDS * ROWS). A gram that stands in more than half of the texts is the
    template's and counts for none of them, unless a text has no others."""

    hashes: Hashes
    starts: Numbers
    signatures: NDArray[np.uint32]

    @classmethod
    def of(cls, words: Words) -> "Shingles":
        """Make the signatures of texts, of which there must be one."""
        hashes, starts = words.grams(GRAM)
        whose = np.repeat(np.arange(len(words)), np.diff(starts))
        kept = _frequency(hashes) <= max(len(words) / 2, 10)
        kept |= (np.bincount(whose, weights=kept, minlength=len(words)) == 0)[whose]
        hashes = hashes[kept]
        starts = _begins(np.bincount(whose[kept], minlength=len(words)))
        small = (hashes >> np.uint64(32)).astype(np.uint32)
        signatures = np.empty((len(words), BANDS * ROWS), dtype=np.uint32)
        for at in range(BANDS * ROWS):
            signatures[:, at] = np.minimum.reduceat((small ^ _SHIFT[at]) * _MULTIPLY[at], starts[:-1])
        return cls(hashes, starts, signatures)

    def keys(self, band: int) -> Hashes:
        """One number a text for a band of the signatures."""
        key = np.zeros(len(self.signatures), dtype=np.uint64)
        for at in range(band * ROWS, (band + 1) * ROWS):
            key = (key ^ self.signatures[:, at].astype(np.uint64)) * _MIX[at % QUOTE]
        return key

    def similarity(self, one: int, other: int) -> float:
        """Jaccard similarity of two texts."""
        a, b = (set(self.hashes[self.starts[n] : self.starts[n + 1]].tolist()) for n in (one, other))
        return len(a & b) / len(a | b)

    def alike(self, ones: Numbers, others: Numbers) -> dict[int, int]:
        """Of candidate pairs (ones[i], others[i]) those that are nearly the same, one for each of `ones`."""
        likely = (self.signatures[ones] == self.signatures[others]).mean(axis=1) >= ALIKE - 0.2
        found: dict[int, int] = {}
        for one, other in zip(ones[likely].tolist(), others[likely].tolist()):
            if one not in found and self.similarity(one, other) >= ALIKE:
                found[one] = other
        return found


def twins(texts: Words) -> dict[int, int]:
    """Number of a text → number of an earlier one that is nearly the same."""
    if len(texts) < 2:
        return {}
    shingles = Shingles.of(texts)
    pairs: list[Any] = []
    for band in range(BANDS):
        keys = shingles.keys(band)
        order = np.argsort(keys, kind="stable")
        fresh = np.concatenate([[True], keys[order][1:] != keys[order][:-1]])
        first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        for back in (*range(1, TRIED), len(order)):
            place = np.maximum(np.arange(len(order)) - back, first)
            other = place < np.arange(len(order))
            pairs.append(np.stack([order[other], order[place[other]]]))
    ones, others = np.unique(np.concatenate(pairs, axis=1), axis=1)
    return shingles.alike(ones, others)


def matches(texts: Words, others: Words) -> dict[int, int]:
    """Number of a text → number of one of `others` that is nearly the same."""
    if not len(texts) or not len(others):
        return {}
    shingles = Shingles.of(others + texts)
    pairs: list[Any] = []
    for band in range(BANDS):
        keys = shingles.keys(band)
        order = np.argsort(keys[: len(others)], kind="stable")
        known, mine = keys[: len(others)][order], keys[len(others) :]
        place = np.searchsorted(known, mine)
        for more in range(TRIED):
            inside = np.flatnonzero(place + more < len(known))
            same = inside[known[place[inside] + more] == mine[inside]]
            pairs.append(np.stack([same + len(others), order[place[same] + more]]))
    ones, them = np.unique(np.concatenate(pairs, axis=1), axis=1)
    return {one - len(others): other for one, other in shingles.alike(ones, them).items()}


def quotes(texts: Words, others: Words) -> dict[int, int]:
    """Number of a text → number of one of `others` (of QUOTE words and more) that stands in it word for word."""
    if not len(texts) or not len(others):
        return {}
    words = others + texts
    hashes, starts = words.grams(QUOTE)
    seldom = _frequency(hashes)
    rarest: dict[int, list[tuple[int, int]]] = {}  # gram → (other, place of the gram in it)
    for other in range(len(others)):
        if len(words.text(other)) >= QUOTE:
            place = int(seldom[starts[other] : starts[other + 1]].argmin())
            rarest.setdefault(int(hashes[starts[other] + place]), []).append((other, place))
    mine = hashes[starts[len(others)] :]
    hits = np.flatnonzero(np.isin(mine, np.array(list(rarest), dtype=np.uint64)))
    whose = np.searchsorted(starts, hits + starts[len(others)], side="right") - 1
    found: dict[int, int] = {}
    for hit, text in zip((hits + starts[len(others)]).tolist(), whose.tolist()):
        for other, place in rarest[int(hashes[hit])]:
            begin = hit - int(starts[text]) - place
            wanted = words.text(other)
            if begin >= 0 and np.array_equal(words.text(text)[begin : begin + len(wanted)], wanted):
                found.setdefault(text - len(others), other)
    return found


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the 3-grams of two texts."""
    shingles, starts = WordBook().words([one, other]).grams(GRAM)
    a, b = set(shingles[: starts[1]].tolist()), set(shingles[starts[1] :].tolist())
    return len(a & b) / len(a | b)


def _frequency(hashes: Hashes) -> Numbers:
    """How often each gram is there, counted in a million buckets."""
    bucket = (hashes & np.uint64(0xFFFFF)).astype(np.int64)
    found: Numbers = np.bincount(bucket, minlength=1 << 20)[bucket]
    return found


def _begins(lengths: Numbers) -> Numbers:
    """Where each of things this long begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])


def _ranges(starts: Numbers, lengths: Numbers) -> Numbers:
    """starts[i], starts[i] + 1, … (lengths[i] of them) for every i, one after the other."""
    total = int(lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    found: Numbers = np.arange(total, dtype=np.int64) + np.repeat(starts - offsets, lengths)
    return found
