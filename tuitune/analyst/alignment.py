"""Makes an alignment: tokens, rows, ends and coverage of one recipe. The weights are not loaded: rows come as slices of their files."""

import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from tuitune.analyst.check_context import CheckContext
from tuitune.analyst.render_watch import RenderWatch
from tuitune.errors import UserError
from tuitune.preflight.alignment import Alignment, CoveredBlock, CoveredPart, End, Matrix, TokenRow
from tuitune.preflight.cards import CPU
from tuitune.preflight.finding import NotHere
from tuitune.preflight.model_files import Tensor
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import Recipe
from tuitune.text import printable
from tuitune.trainer.prepared import IGNORED

MOST = 400  # tokens that are listed
SAMPLE = 512  # rows that the median norm is taken of
SCAN = 1 << 28  # bytes of an embedding that is searched whole for the nearest row
BLOCK = 8192  # rows at a time
ROLES = ("bos", "eos", "pad", "unk")

T = TypeVar("T")


@dataclass
class Rows:
    """What the weights say of some ids: `norm` against the median, `nearest`: (id, cosine) of the most similar other row."""

    norm: dict[int, float]
    nearest: dict[int, tuple[int, float]]
    sampled: bool


@dataclass
class Facts:
    """What is known of all tokens: `counts` (rows with an id, rows that learn it), `trained` ids, `untrained`: id → why."""

    embedding: Tensor | None
    rows: Rows | None
    counts: tuple[dict[int, int], dict[int, int]] | None
    trained: Container[int]
    untrained: dict[int, str]


def align(recipe: Recipe, watch: RenderWatch, progress: Callable[[str], None]) -> Alignment:
    """The alignment of a recipe. UserError when not even the tokenizer can be had; what else cannot is in the notes."""
    context = CheckContext(recipe, read_document(recipe.file), CPU, watch, progress)
    tokenizer = context.tokenizer
    notes: list[str] = []

    def attempt(make: Callable[[], T], what: str) -> T | None:
        try:
            return make()
        except (UserError, NotHere) as reason:
            notes.append(f"{what}: {printable(str(reason), limit=300)}")
            return None

    embedding = attempt(lambda: context.model.input_embedding, "weights")
    head = attempt(lambda: context.model.output_embedding, "output embedding") if embedding else None
    counts = attempt(lambda: _counts(context), "training rows")
    coverage = attempt(lambda: list(_blocks(context.lora_coverage)), "coverage") or []
    vocabulary = tokenizer.get_vocab()
    roles, left_out = _listed(context, counts[0] if counts else {})
    progress("reading rows of the embedding")
    present = [id for id in roles if embedding is not None and id < embedding.shape[0]]
    rows = attempt(lambda: _rows(context, embedding, present), "rows of the embedding") if embedding else None
    untrained = attempt(lambda: context.untrained_ids, "untrained rows") if counts and embedding else None
    facts = Facts(embedding, rows, counts, _trained(context, embedding, coverage), untrained or {})
    return Alignment(
        len(tokenizer),
        max(vocabulary.values()),
        _matrix(embedding),
        _matrix(head),
        attempt(lambda: context.embedding_rows, "rows in training") if embedding else None,
        bool(context.model.tied) if embedding else False,
        _method(context),
        [_token(context, id, roles[id], facts) for id in sorted(roles)],
        [_end(context, role) for role in ("eos", "pad", "bos")] if embedding else [],
        coverage,
        left_out,
        bool(rows and rows.sampled),
        list(dict.fromkeys(notes)),
    )


def _matrix(tensor: Tensor | None) -> Matrix | None:
    return Matrix(printable(tensor.name, limit=120), tensor.shape[0], tensor.shape[1], tensor.dtype) if tensor else None


def _method(context: CheckContext) -> str:
    if context.recipe.model.get("adapter"):
        return f"adapter {printable(str(context.recipe.model['adapter']), limit=120)}"
    return "full fine-tuning" if context.recipe.peft is None else "LoRA"


def _listed(context: CheckContext, used: dict[int, int]) -> tuple[dict[int, list[str]], int]:
    """Id → roles of the tokens worth a line, and how many added tokens are none: those with a role, new, or in the data."""
    tokenizer = context.tokenizer
    roles: dict[int, list[str]] = {}
    for role in ROLES:
        id = getattr(tokenizer, f"{role}_token_id", None)
        if id is not None:
            roles.setdefault(int(id), []).append(role)
    for id in context.new_ids:
        roles.setdefault(id, []).append("new")
    added = list(tokenizer.added_tokens_decoder)
    shown = [id for id in added if id in used or id in roles]
    few = len(added) <= MOST // 4
    for id in added if few else shown[:MOST]:
        roles.setdefault(int(id), [])
    return roles, sum(id not in roles for id in added)


def _counts(context: CheckContext) -> tuple[dict[int, int], dict[int, int]]:
    """Id → training rows that have it: among their tokens, and among their labels."""
    prepared = context.proven.prepared
    known = set(context.tokenizer.added_tokens_decoder)
    seen: list[set[tuple[int, int]]] = [set(), set()]
    for name, column in prepared.columns.items():
        answers = name in ("labels", "completion_ids", "chosen_ids", "rejected_ids")
        if not (answers or name.endswith("_ids")):
            continue
        owner = np.repeat(np.arange(len(column.lengths)), column.lengths)
        chosen = np.isin(column.values, np.fromiter(known, np.int64)) & (column.values != IGNORED)
        pairs = set(zip(column.values[chosen].tolist(), owner[chosen].tolist()))
        seen[0] |= pairs
        if answers:
            seen[1] |= pairs
    first, second = ({id: sum(1 for _ in group) for id, group in groupby(sorted(pairs), key=lambda pair: pair[0])} for pairs in seen)
    return first, second


def _rows(context: CheckContext, tensor: Tensor, ids: Sequence[int]) -> Rows:
    """Norms of rows against the median of a sample, and for each the most similar other row."""
    from torch import full, long, zeros
    from torch import tensor as numbers
    from torch.nn.functional import normalize

    if not ids:
        return Rows({}, {}, False)
    sample = list(range(0, tensor.shape[0], max(1, tensor.shape[0] // SAMPLE)))[:SAMPLE]
    mine = context.weight_rows(tensor, list(ids))
    median = float(context.weight_rows(tensor, sample).norm(dim=1).median()) or 1.0
    best, whose = full((len(ids),), -2.0), zeros(len(ids), dtype=long)
    for places, rows in _pieces(context, tensor, [*ids, *(id for id in sample if id not in set(ids))]):
        alike = normalize(mine) @ normalize(rows).T
        alike[numbers(ids)[:, None] == numbers(places)[None, :]] = -2.0  # a row is most like itself
        value, at = alike.max(dim=1)
        better = value > best
        best[better], whose[better] = value[better], numbers(places)[at[better]]
    norm = {id: float(value) / median for id, value in zip(ids, mine.norm(dim=1))}
    nearest = {id: (int(other), float(value)) for id, other, value in zip(ids, whose, best) if value > -2.0 and norm[id] > 0}
    return Rows(norm, nearest, not _whole(tensor))


def _whole(tensor: Tensor) -> bool:
    """Whether an embedding is small enough to be searched whole."""
    return tensor.end - tensor.begin <= SCAN


def _pieces(context: CheckContext, tensor: Tensor, some: list[int]) -> Iterator[tuple[list[int], Any]]:
    """(ids, rows) of the whole embedding a block at a time, or only of `some`."""
    if not _whole(tensor):
        yield some, context.weight_rows(tensor, some)
        return
    from safetensors import safe_open

    with safe_open(str(tensor.file), framework="pt") as opened:
        part = opened.get_slice(tensor.name)
        for start in range(0, tensor.shape[0], BLOCK):
            stop = min(start + BLOCK, tensor.shape[0])
            yield list(range(start, stop)), part[start:stop].float()


def _token(context: CheckContext, id: int, roles: list[str], facts: Facts) -> TokenRow:
    present = facts.embedding is not None and id < facts.embedding.shape[0]
    nearest = facts.rows.nearest.get(id) if facts.rows else None
    used, in_loss = (part.get(id, 0) for part in facts.counts) if facts.counts else (None, None)
    trained, norm = id in facts.trained, facts.rows.norm.get(id) if facts.rows else None
    faults = []
    if facts.embedding is not None and used and id >= context.embedding_rows:
        faults.append("it has no row in the embedding: the first step that meets it crashes")
    if id in facts.untrained and not trained:
        faults.append(f"its row was never trained ({printable(facts.untrained[id], limit=120)}), and is not trained now")
    near = (_text(context, nearest[0]), round(nearest[1], 4)) if nearest else None
    shown = round(norm, 4) if norm is not None else None
    return TokenRow(_text(context, id), id, roles, present, shown, near, used, in_loss, trained, faults)


def _trained(context: CheckContext, embedding: Tensor | None, coverage: list[CoveredBlock]) -> Container[int]:
    """The ids whose row of the input embedding is trained."""
    name = embedding.name.removesuffix(".weight").rpartition(".")[2] if embedding else ""
    parts = (part for block in coverage for part in block.parts if part.kind == "trained")
    part = next((part for part in parts if part.name.rpartition(".")[2] == name), None)
    if part is None:
        return ()
    indices = (context.recipe.peft or {}).get("trainable_token_indices")
    if indices:
        return set(indices.get(name, ()) if isinstance(indices, dict) else indices)
    return range(1 << 62)


def _end(context: CheckContext, role: str) -> End:
    """One role in tokenizer, config and generation_config."""
    own = getattr(context.tokenizer, f"{role}_token_id", None)
    files = (context.model.text_config, context.model.generation_config or {})
    sides = [[] if own is None else [int(own)], *(_ids(file.get(f"{role}_token_id")) for file in files)]
    said = [set(side) for side in sides if side]
    agree = None if len(said) < 2 else bool(set.intersection(*said))
    if role == "eos" and sides[0] and sides[2]:
        agree = sides[0][0] in sides[2]  # what ends a turn when the model is used
    named = [[(id, _text(context, id)) for id in side] for side in sides]
    return End(role, named[0], named[1], named[2], agree)


def _ids(value: object) -> list[int]:
    return [id for id in (value if isinstance(value, list) else [value]) if isinstance(id, int)]


def _text(context: CheckContext, id: int) -> str:
    return printable(str(context.tokenizer.convert_ids_to_tokens(id) or f"#{id}"), limit=60)


def _blocks(parts: Sequence[Any]) -> Iterator[CoveredBlock]:
    """Modules by block; blocks that are alike and follow each other as one."""
    numbered = re.compile(r"^(.*?)\.(\d+)\.(.+)$")
    blocks: list[CoveredBlock] = []
    for place, group in groupby(parts, key=lambda part: found.group(1, 2) if (found := numbered.match(part.name)) else ("", "")):
        name, number = place
        inside = [
            CoveredPart(
                part.name.removeprefix(f"{name}.{number}.") if name else part.name, part.kind, part.shape, part.parameters, part.trained
            )
            for part in group
        ]
        last = blocks[-1] if blocks else None
        if last and name and last.name == name and last.parts == inside and last.last == int(number) - 1:
            blocks[-1] = CoveredBlock(name, last.first, int(number), inside)
        else:
            blocks.append(CoveredBlock(name, int(number) if number else None, int(number) if number else None, inside))
    yield from blocks
