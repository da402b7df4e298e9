"""TRL's own preparation over rows in memory: its `_prepare_dataset` runs as it is, on a list instead of an Arrow table.

What a whole set costs in Dataset.map is not the tokenizer but writing, hashing and reading tables, transformers' wrapping of every single
text, and TRL's look at every token's masks. They are replaced here by the least that TRL's code asks of them; that nothing else changes
is proven on a sample of every recipe (proven_set.py) and in tests/contract/test_survey.py.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datasets import Dataset
from transformers import BatchEncoding

from tuitune.analyst.document import IGNORED
from tuitune.analyst.shared_beginning import borders, shared

Example = dict[str, Any]
Note = Callable[[Example], Example]  # from an example just tokenised: columns of our own to put beside TRL's


class RowList:
    """The part of `datasets.IterableDataset` that TRL's preparation uses, over examples in memory; every method gives a new one.

    `note` is called once for every example, when it has just got its ids. `FaultAt` says at which example TRL's code failed.
    """

    def __init__(self, rows: Sequence[Example], note: Note | None = None) -> None:
        self.rows = rows
        self._note = note

    @property
    def column_names(self) -> list[str]:
        """Of the first example, like `datasets`."""
        return list(self.rows[0]) if self.rows else []

    def __iter__(self) -> Iterator[Example]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def map(
        self,
        function: Callable[..., Example],
        fn_kwargs: dict[str, Any] | None = None,
        remove_columns: str | list[str] | None = None,
        **_options: Any,
    ) -> "RowList":
        """Each example with what `function` returns for it laid over; columns of the input that are to go are taken out before."""
        gone = {remove_columns} if isinstance(remove_columns, str) else set(remove_columns or ())
        more = fn_kwargs or {}
        if getattr(function, "__name__", "") == "build_labels" and len(more.get("mask_columns", ())) == 1:
            function = _labels_of_one_mask
        mapped = []
        for at, row in enumerate(self.rows):
            try:
                made = function(dict(row), **more)
            except Exception as error:
                raise FaultAt(at) from error
            whole = {**{name: value for name, value in row.items() if name not in gone}, **made}
            if self._note is not None and not TOKENISED.isdisjoint(made) and TOKENISED.isdisjoint(row):
                whole |= self._note(whole)
            mapped.append(whole)
        return RowList(mapped, self._note)

    def filter(self, function: Callable[[Example], bool], **_options: Any) -> "RowList":
        """All examples, those for which `function` is false marked LOST: whoever asks wants to know which TRL leaves out."""
        return RowList([row if function(row) else {**row, LOST: True} for row in self.rows], self._note)

    def shuffle(self, seed: int | None = None) -> "RowList":
        """In the order that `datasets` gives them, those marked LOST behind."""
        kept, lost = ([at for at, row in enumerate(self.rows) if (LOST in row) is gone] for gone in (False, True))
        order = Dataset.from_dict({"at": kept}).shuffle(seed=seed)["at"]
        return RowList([self.rows[at] for at in [*order, *lost]], self._note)

    def select_columns(self, names: list[str]) -> "RowList":
        """Only these columns."""
        return RowList([{name: row[name] for name in names} for row in self.rows], self._note)


def _labels_of_one_mask(example: Example, mask_columns: Sequence[str]) -> Example:
    """SFTTrainer's build_labels for the usual case, a quarter of its time; for a prompt and its completion half of that."""
    ids, mask = example["input_ids"], example[mask_columns[0]]
    prompt = mask.count(0)
    if len(mask) == len(ids) and not any(mask[:prompt]):  # all zeros stand first, so no token need be looked at
        return {"labels": [IGNORED] * prompt + ids[prompt:]}
    return {"labels": [token_id if counts else IGNORED for token_id, counts in zip(ids, mask, strict=False)]}


LOST = "tuitune_lost"
TOKENISED = frozenset({"input_ids", "prompt_ids"})  # what TRL adds when it tokenises: SFT; preferences


class FaultAt(Exception):
    """TRL's code (or a template) failed on the example with this index; the reason is the cause."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def quick(tokenizer: Any) -> Any:
    """A copy of a fast tokenizer whose call for a single plain text goes straight to the Rust tokenizer; any other call is its own.

    `take_calls()` gives (text, encoding) of each such call since it was asked last; a text that begins like one of these, or of those
    before them, shares its encoding.
    """
    own = type(tokenizer)
    calls: list[tuple[str, Any]] = []
    taken: list[tuple[str, Any]] = []

    class Quick(own):  # type: ignore[misc, valid-type]
        def __call__(self, text: Any = None, **options: Any) -> Any:
            special = options.pop("add_special_tokens", True)
            if not isinstance(text, str) or any(options.values()):
                return super().__call__(text, add_special_tokens=special, **options)
            if special:
                encoding = self._tokenizer.encode(text)
            else:
                encoding = shared(self._tokenizer, text, taken + calls, begin_anew)
            calls.append((text, encoding))
            return BatchEncoding({"input_ids": encoding.ids}, [encoding])

        def take_calls(self) -> list[tuple[str, Any]]:
            taken[:] = calls
            calls.clear()
            return list(taken)

    found = copy.copy(tokenizer)
    found._tokenizer.no_truncation()
    found._tokenizer.no_padding()
    begin_anew = borders(found._tokenizer)
    found.__class__ = Quick
    Quick.__name__ = own.__name__
    return found
