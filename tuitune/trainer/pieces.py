"""Where a micro-batch can be cut so that its parts together have its gradient: between rows, preference pairs, packed documents.

Three shapes of TRL's collators (tests/contract/test_split_batch.py pins them):

    rows        every tensor has one entry a row
    pairs       chosen rows, then rejected rows in the same order; what belongs to a pair has one entry a pair
    documents   one packed row without padding, position_ids start again at each document, which attends to itself only
"""

from abc import ABC, abstractmethod
from collections import Counter
from itertools import pairwise
from typing import Any

import torch

Inputs = dict[str, Any]
IGNORED = -100  # the label of a position that is not in the loss


class Layout(ABC):
    """How the units of a micro-batch lie in its tensors. `word`: what a unit is called."""

    word: str

    @abstractmethod
    def count(self, inputs: Inputs) -> int:
        """How many units there are."""

    @abstractmethod
    def part(self, inputs: Inputs, start: int, stop: int) -> Inputs:
        """The units from `start` up to `stop` as a micro-batch. ValueError when there is a tensor of a shape that no unit has."""

    def middle(self, inputs: Inputs) -> int:
        """Where to cut in two, so that both have about half of the tokens."""
        return self.count(inputs) // 2

    def tokens(self, inputs: Inputs) -> int:
        """Positions that go through the model, padding included: what memory follows; 0 where no trainer of ours counts them."""
        ids = inputs.get("input_ids")
        return int(ids.numel()) if isinstance(ids, torch.Tensor) else 0

    @abstractmethod
    def weights(self, inputs: Inputs) -> dict[str, float]:
        """What TRL's averages are over: `units`, and numbers of scored `tokens` (of `chosen` and of `rejected` answers)."""


class Rows(Layout):
    """Padded rows."""

    word = "row"

    def count(self, inputs: Inputs) -> int:
        """Rows."""
        return len(inputs["input_ids"])

    def part(self, inputs: Inputs, start: int, stop: int) -> Inputs:
        """Some rows, as wide as before: with less padding they would be other tensors, and sums in another order."""
        rows = self.count(inputs)

        def cut(name: str, value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if value.dim() == 0 or len(value) != rows:
                raise ValueError(f"`{name}` does not have one entry a row")
            return value[start:stop]

        return {name: cut(name, value) for name, value in inputs.items()}

    def weights(self, inputs: Inputs) -> dict[str, float]:
        """Labels that count, each of the position after it."""
        return {"units": self.count(inputs), "tokens": int((inputs["labels"][:, 1:] != IGNORED).sum())}


class Pairs(Layout):
    """Chosen rows, then rejected rows."""

    word = "pair"

    def count(self, inputs: Inputs) -> int:
        """Pairs."""
        return len(inputs["input_ids"]) // 2

    def part(self, inputs: Inputs, start: int, stop: int) -> Inputs:
        """Some pairs, each with both its rows."""
        pairs = self.count(inputs)

        def cut(name: str, value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            if value.dim() == 0 or len(value) not in (pairs, 2 * pairs):
                raise ValueError(f"`{name}` has neither one entry a pair nor one a row")
            if len(value) == pairs:
                return value[start:stop]
            return torch.cat([value[start:stop], value[pairs + start : pairs + stop]])

        return {name: cut(name, value) for name, value in inputs.items()}

    def weights(self, inputs: Inputs) -> dict[str, float]:
        """Tokens of the answers; where nothing marks them (a reward model) only the pairs."""
        pairs, mask = self.count(inputs), inputs.get("completion_mask")
        if mask is None:
            return {"units": pairs}
        chosen, rejected = (int(half.sum()) for half in mask[:, 1:].chunk(2))
        return {"units": pairs, "tokens": chosen + rejected, "chosen": chosen, "rejected": rejected}


class Documents(Layout):
    """Packed documents in one row."""

    word = "document"
    along = ("input_ids", "labels", "position_ids", "seq_idx")  # one entry a token
    borders = ("cu_seq_lens_q", "cu_seq_lens_k")
    longest = ("max_length_q", "max_length_k")

    def count(self, inputs: Inputs) -> int:
        """Documents."""
        return len(self._borders(inputs)) - 1

    def middle(self, inputs: Inputs) -> int:
        """The border nearest to half of the tokens."""
        borders = self._borders(inputs)
        return min(range(1, len(borders) - 1), key=lambda number: abs(2 * borders[number] - borders[-1]), default=0)

    def part(self, inputs: Inputs, start: int, stop: int) -> Inputs:
        """Some documents as a packed row, its borders counted anew."""
        foreign = inputs.keys() - {*self.along, *self.borders, *self.longest}
        if foreign:
            raise ValueError(f"it is not known what `{min(foreign)}` of a packed row belongs to")
        borders = self._borders(inputs)[start : stop + 1]
        part = {name: inputs[name][:, borders[0] : borders[-1]] for name in self.along if name in inputs}
        if "seq_idx" in part:
            part["seq_idx"] = part["seq_idx"] - start
        for name in self.borders:
            if name in inputs:
                part[name] = inputs[name][start : stop + 1] - borders[0]
        longest = max(after - before for before, after in pairwise(borders))
        return part | {name: longest for name in self.longest if name in inputs}

    def weights(self, inputs: Inputs) -> dict[str, float]:
        """Labels that count."""
        return {"units": self.count(inputs), "tokens": int((inputs["labels"][:, 1:] != IGNORED).sum())}

    @staticmethod
    def _borders(inputs: Inputs) -> list[int]:
        positions = inputs["position_ids"][0]
        return [*(positions == 0).nonzero().flatten().tolist(), len(positions)]


class JoinedRows(Documents):
    """The data's rows, joined into one without padding."""

    word = "row"


ROWS, PAIRS, DOCUMENTS, JOINED_ROWS = Rows(), Pairs(), Documents(), JoinedRows()


def in_words(layout: Layout, counts: list[int]) -> str:
    """A division in words: "2 × 4 rows", "4 + 2 + 2 rows"."""
    if len(set(counts)) == 1:
        return f"{len(counts)} × {counts[0]} {layout.word}{'s' if counts[0] > 1 else ''}"
    if max(Counter(counts).values()) > 3:  # a long sum tells nobody anything
        return f"{len(counts)} parts of {min(counts)} to {max(counts)} {layout.word}s"
    return f"{' + '.join(map(str, counts))} {layout.word}s"
