"""What checks ask about special tokens: which are free, how conversations begin and end, which rows of the embedding were trained."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jinja2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from transformers.utils.chat_template_utils import _compile_jinja_template

from tuitune.analyst.conversation import conversations, render_options
from tuitune.analyst.inspection import choose, subset
from tuitune.analyst.rendering import Renderer, Talk
from tuitune.analyst.whole_set import WholeSet
from tuitune.dataset.load import Split
from tuitune.errors import UserError
from tuitune.preflight.model_files import Tensor
from tuitune.trainer.build import rows_dataset

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
OPTIONS = ("tools", "chat_template_kwargs", "label")  # columns that are no text of the data
LOOKED_AT = 32  # conversations that are rendered to see how they begin and end
WHOLE = 1 << 30  # bytes of an embedding that are read as a whole; of a larger one a sample of rows
SAMPLED = 512  # rows, for the median
NOTHING = 1e-16  # what no trained weight is below
SMALL = 0.05  # of the median norm
ALIKE = 0.999  # cosine, with norms within 1 %


@dataclass(frozen=True)
class Rendered:
    """A conversation of a training row as text and ids. `end`: the added token that follows the last assistant turn, None: none does."""

    row: int
    text: str
    ids: list[int]
    end: int | None


@dataclass(frozen=True)
class Table:
    """An embedding's rows. `median`: of their norms; `mean`: their mean vector, None when the table is too large to be read as a whole;
    `bad`: rows that hold a NaN or an infinity, of `looked` rows."""

    tensor: Tensor
    median: float
    mean: torch.Tensor | None
    bad: list[int]
    looked: int


def added_tokens(tokenizer: Any) -> dict[int, Any]:
    """Id → AddedToken: what text is cut at before anything else, special or not."""
    return dict(getattr(tokenizer, "added_tokens_decoder", None) or {})


def texts_of(split: Split) -> Iterator[str]:
    """Every string of a split's rows."""
    for row in split.rows:
        yield from _strings(row)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def some_texts(split: Split, count: int, longest: int) -> list[str]:
    """The first strings of a seeded sample of rows, without blanks around them, cut to `longest` characters."""
    rows = [split.rows[at] for at in choose(len(split.rows), None, count)]
    texts = (text[:longest].strip() for row in rows for text in _strings({key: row[key] for key in row if key not in OPTIONS}))
    return [text for text in islice(texts, count * 4) if text][:count]


def longest_row(prepared: WholeSet) -> int:
    """Tokens of the longest sequence before it is cut."""
    if not len(prepared.rows):
        return 0
    lengths = {name: column.lengths for name, column in prepared.columns.items()}
    if "input_ids" in lengths:
        return int(lengths["input_ids"].max())
    return int((lengths["prompt_ids"] + np.maximum(lengths["chosen_ids"], lengths["rejected_ids"])).max())


def missing_in_template(tokenizer: Any, split: Split) -> dict[str, bool]:
    """Names of special tokens that the chat template uses on these rows and the tokenizer has not → whether rendering fails on it.

    Asked of the template itself with an Undefined that notes when it is printed: `{% if bos_token %}` is no use.
    """
    template = tokenizer.chat_template
    names = [name for name in NAMED if name not in tokenizer.special_tokens_map]
    if not isinstance(template, str) or not any(name in template for name in names):
        return {}
    printed: set[str] = set()

    class Noted(jinja2.Undefined):
        def __str__(self) -> str:
            printed.add(str(self._undefined_name))
            return ""

    compiled = _compile_jinja_template(template).environment.overlay(undefined=Noted).from_string(template)
    failing = set()
    chosen = choose(len(split.rows), None, LOOKED_AT)
    for example in rows_dataset(subset(split, chosen)):
        for _, turns in conversations(example):
            options = {"tools": None, "documents": None, **render_options(example), **tokenizer.special_tokens_map}
            try:
                compiled.render(messages=list(turns), add_generation_prompt=False, **options)
            except jinja2.UndefinedError as error:
                failing |= {name for name in names if f"'{name}' is undefined" in str(error)}
            except Exception:  # templates raise what they like, and other checks tell it
                continue
    return {name: name in failing for name in names if name in printed | failing}


def free_token(tokenizer: Any, rows: int, texts: Sequence[str]) -> str | None:
    """A special token that can be the padding: with a row in the embedding, no other duty, and in none of `texts` (data, template).

    Tokens made for it come first, then reserved ones. None when there is none.
    """
    busy = {tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token}
    free = [
        token.content
        for id, token in sorted(added_tokens(tokenizer).items())
        if token.special and token.content not in busy and token.content.strip() and id < rows
    ]
    order = ("pad", "endoftext", "reserved", "unused")
    free.sort(key=lambda text: next((at for at, word in enumerate(order) if word in text.lower()), len(order)))
    return next((text for text in free if not any(text in other for other in texts)), None)


def rendered(tokenizer: Any, split: Split) -> list[Rendered]:
    """Some of a split's conversations through the chat template; rows on which the template fails are left out (TPL checks tell them)."""
    renderer = Renderer(tokenizer)
    chosen = choose(len(split.rows), None, LOOKED_AT)
    found = []
    for row, example in zip(chosen, rows_dataset(subset(split, chosen)), strict=True):
        for name, turns in conversations(example):
            talk = Talk(row, name, turns, render_options(example))
            try:
                text = renderer.text(talk)
            except Exception:  # templates raise what they like; what is left out here is told elsewhere
                continue
            found.append(Rendered(row, text, renderer.ids(text), _end(tokenizer, turns, text)))
    return found


def _end(tokenizer: Any, turns: Sequence[Any], text: str) -> int | None:
    """The added token that ends the last assistant turn: nothing but blanks may stand between it and the content."""
    last = turns[-1] if turns else {}
    content = last.get("content")
    if last.get("role") != "assistant" or not isinstance(content, str) or not content.strip():
        return None
    at = text.rfind(content.strip())
    rest = text[at + len(content.strip()) :].lstrip() if at >= 0 else ""
    starts = [(token.content, id) for id, token in added_tokens(tokenizer).items() if rest.startswith(token.content)]
    return max(starts, key=lambda found: len(found[0]))[1] if starts else None


def table(tensor: Tensor, ids: Sequence[int]) -> Table:
    """Figures of an embedding's rows; of one larger than WHOLE only of SAMPLED rows, and whether those of `ids` are numbers."""
    rows = tensor.shape[0]
    if tensor.end - tensor.begin <= WHOLE:
        return _whole(tensor)
    sample = sorted({*(round(at) for at in np.linspace(0, rows - 1, SAMPLED)), *(id for id in ids if id < rows)})
    values = read_rows(tensor, sample)
    fine = torch.isfinite(values).all(1)
    bad = [sample[at] for at in torch.nonzero(~fine).flatten().tolist()]
    return Table(tensor, _median(values[fine].norm(dim=1)), None, bad, len(sample))


def _whole(tensor: Tensor) -> Table:
    total = torch.zeros(tensor.shape[1], dtype=torch.float64)
    norms, bad, good = [], [], 0
    for start, part in _chunks(tensor):
        lengths = part.norm(dim=1)
        if not torch.isfinite(lengths).all():  # a row that is no number has no norm
            fine = torch.isfinite(part).all(1)
            bad += (start + torch.nonzero(~fine).flatten()).tolist()
            part, lengths = part[fine], lengths[fine]
        total += part.sum(0)
        norms.append(lengths)
        good += len(part)
    mean = (total / max(good, 1)).float()
    return Table(tensor, _median(torch.cat(norms)) if norms else 0.0, mean, bad, tensor.shape[0])


def _median(norms: torch.Tensor) -> float:
    return float(norms.median()) if len(norms) else 0.0


def _chunks(tensor: Tensor, size: int = 16384) -> Iterator[tuple[int, torch.Tensor]]:
    with _open(tensor) as opened:
        part = opened.get_slice(tensor.name)
        for start in range(0, tensor.shape[0], size):
            yield start, part[start : start + size].float()


def read_rows(tensor: Tensor, ids: Sequence[int] | None = None) -> torch.Tensor:
    """Rows of a 2-D tensor out of its file as float32: (len(ids), hidden); all rows when `ids` is None."""
    with _open(tensor) as opened:
        part = opened.get_slice(tensor.name)
        if ids is None:
            return part[:].float()
        return torch.cat([part[id : id + 1] for id in ids]).float() if ids else torch.zeros(0, tensor.shape[1])


def _open(tensor: Tensor) -> Any:
    try:
        return safe_open(str(tensor.file), framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{tensor.file.name} cannot be read ({error}); download it again") from error


def untrained(table: Table, used: Sequence[int], special: Sequence[int], blank: int | None = None) -> dict[int, str]:
    """Those of `used` whose row was never trained → why that is to be seen. `special`: the rows that they are compared with.

    A row of zeros or far shorter than others; the same as another special token's (SmolLM2's unused tokens are copies of one row with an
    ordinary norm); the mean of all rows, which is how transformers fills new ones. `blank`: the row that is zeros by construction, since
    nn.Embedding makes and keeps its padding_idx so.
    """
    ids = sorted(id for id in {*used, *special} if id < table.tensor.shape[0])
    values = read_rows(table.tensor, ids)
    norms = values.norm(dim=1)
    units = values / norms.clamp(min=NOTHING)[:, None]
    found = {}
    for at, id in enumerate(ids):
        if id not in used:
            continue
        norm = float(norms[at])
        if math.isnan(norm):
            continue  # EMB06 tells it
        if float(values[at].abs().max()) <= NOTHING:
            if id == blank:
                continue
            found[id] = "all zeros"
        elif norm < SMALL * table.median:
            found[id] = f"norm {norm:.2g} where the median is {table.median:.2g}"
        elif (twin := _twin(at, units, norms)) is not None:
            found[id] = f"the same row as token {ids[twin]}"
        elif table.mean is not None and _alike(values[at], table.mean):
            found[id] = "the mean of all rows"
    return found


def _twin(at: int, units: torch.Tensor, norms: torch.Tensor) -> int | None:
    alike = (units @ units[at] > ALIKE) & ((norms - norms[at]).abs() <= 0.01 * norms[at])
    alike[at] = False
    found = torch.nonzero(alike).flatten()
    return int(found[0]) if len(found) else None


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    return bool(cosine > ALIKE) and bool((one.norm() - other.norm()).abs() <= 0.01 * other.norm())


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same numbers; of large ones SAMPLED rows are compared."""
    if one.shape != other.shape:
        return False
    if one.end - one.begin > WHOLE:
        ids = [round(at) for at in np.linspace(0, one.shape[0] - 1, SAMPLED)]
        return bool(torch.equal(read_rows(one, ids), read_rows(other, ids)))
    return all(torch.equal(mine, its) for (_, mine), (_, its) in zip(_chunks(one), _chunks(other), strict=True))
