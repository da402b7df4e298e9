"""What `alignment` says: special tokens against rows of the embedding, the ends side by side, what an adapter trains. Plain data."""

import msgspec


class TokenRow(msgspec.Struct, frozen=True):
    """A token and its row. `roles`: eos, pad, new …; `present`: whether the embedding in the weights has its row; `norm` of that row by
    the median of all (1.0 = usual); `nearest`: the most similar other row (token text, cosine); `used`, `in_loss`: training rows that
    have it, at all and as a label, None when the data could not be prepared; `trained`: whether its row is trained, and so saved with
    the result. `faults`: what is wrong with it in words."""

    text: str
    id: int
    roles: list[str]
    present: bool
    norm: float | None = None
    nearest: tuple[str, float] | None = None
    used: int | None = None
    in_loss: int | None = None
    trained: bool = False
    faults: list[str] = []


class Matrix(msgspec.Struct, frozen=True):
    """An embedding's tensor in the weights."""

    name: str
    rows: int
    width: int
    dtype: str


class End(msgspec.Struct, frozen=True):
    """One role ("eos", "pad", "bos") as three files name it: (id, text) each; `agree`: whether they have an id in common, None: not said
    in more than one place."""

    role: str
    tokenizer: list[tuple[int, str]]
    config: list[tuple[int, str]]
    generation: list[tuple[int, str]]
    agree: bool | None


class CoveredPart(msgspec.Struct, frozen=True):
    """A module with weights: its name below its block, "trained", "frozen" or "unreachable" (no adapter can sit on it), numbers of
    parameters, and how many are trained on it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    trained: int


class CoveredBlock(msgspec.Struct, frozen=True):
    """Blocks that are alike, one after the other (`first` to `last`), or what belongs to no block (`first` None)."""

    name: str
    first: int | None
    last: int | None
    parts: list[CoveredPart]

    @property
    def count(self) -> int:
        """How many blocks."""
        return 1 if self.first is None or self.last is None else self.last - self.first + 1


class Alignment(msgspec.Struct, frozen=True):
    """`vocabulary`: tokens of the tokenizer, `largest` its largest id; `input` and `output` None without weights on this box, `output` also
    when it is no tensor of its own; `rows` of the embedding in training; `left_out`: added tokens that nothing uses, not in `tokens`;
    `sampled`: nearest rows were sought among the listed and 512 others only; `method`: full, LoRA or an adapter's name; `notes`: what could
    not be looked at and why."""

    vocabulary: int
    largest: int
    input: Matrix | None
    output: Matrix | None
    rows: int | None
    tied: bool
    method: str
    tokens: list[TokenRow]
    ends: list[End]
    coverage: list[CoveredBlock]
    left_out: int = 0
    sampled: bool = False
    notes: list[str] = []
