"""What the later checks look at: tokenizer, rows, weights; in an analyst worker. Each is made when it is first asked for, and once."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tuitune.analyst.meta_model import LoadReport, default_ends, embedding_names, load_report, meta_model
from tuitune.analyst.proven_set import ProvenSet, prove
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.token_facts import (
    Rendered,
    Table,
    added_tokens,
    free_token,
    longest_row,
    missing_in_template,
    read_rows,
    rendered,
    same,
    some_texts,
    table,
    texts_of,
    untrained,
)
from tuitune.analyst.trained_rows import Trained, trained
from tuitune.dataset.load import Split
from tuitune.dataset.looked_at import remember
from tuitune.preflight.context import Context
from tuitune.preflight.finding import NotHere, Where
from tuitune.preflight.model_files import Tensor
from tuitune.trainer.build import Built, begin, load_tokenizer, make_tokenizer
from tuitune.trainer.prepared import hash_rows


@dataclass
class CheckContext(Context):
    """`watch` and `progress` are the worker's. Everything below raises UserError when the recipe's fault prevents it."""

    watch: RenderWatch
    progress: Callable[[str], None]

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """AutoTokenizer's, before the recipe's pad token, new tokens and template are put in."""
        return load_tokenizer(self.recipe)

    @cached_property
    def tokenizer(self) -> Any:
        """As the trainer gets it."""
        return make_tokenizer(self.built)

    @cached_property
    def raw_tokenizer(self) -> Any:
        """tokenizers.Tokenizer of tokenizer.json as it stands. NotHere when the model has none that can be read."""
        from tokenizers import Tokenizer

        file = self.model.folder / "tokenizer.json"
        if not file.exists():
            raise NotHere("the model has no tokenizer.json")
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust side raises nothing more special
            raise NotHere("tokenizer.json cannot be read, which loading the tokenizer tells") from error

    @cached_property
    def template(self) -> str:
        """The chat template that training renders with. NotHere when there is none."""
        found = self.tokenizer.chat_template
        if not isinstance(found, str):
            raise NotHere("the tokenizer has no chat template")
        return found

    @cached_property
    def built(self) -> Built:
        """Method, box and rows of the recipe; it has no trainer."""
        return begin(self.recipe)

    @cached_property
    def train(self) -> Split:
        """The training rows in TRL's shape."""
        return self.built.train

    @cached_property
    def evaluation(self) -> Split:
        """The rows of dataset.eval. NotHere when the recipe names none."""
        if self.built.eval is None:
            raise NotHere("the recipe has no dataset.eval")
        return self.built.eval

    @cached_property
    def proven(self) -> ProvenSet:
        """All training rows prepared as TRL does (tuitune.analyst.proven_set)."""
        mine = replace(self.recipe, training=dict(self.recipe.training))  # it takes out what asks for an evaluation
        return prove(mine, self.watch, self.progress, begun=replace(self.built, recipe=mine))

    @cached_property
    def trained(self) -> Trained:
        """What of them is trained."""
        return trained(self.proven.built, self.proven.prepared)

    @cached_property
    def used(self) -> dict[int, int]:
        """Token id → number of a training row that has it; without what the trainer adds while padding."""
        prepared = self.proven.prepared
        found: dict[int, int] = {}
        for name, column in prepared.columns.items():
            if not name.endswith("_ids") or not len(column.values):
                continue
            at = np.full(int(column.values.max()) + 1, -1)
            at[column.values[::-1]] = np.arange(len(column.values))[::-1]  # the first place stays, since it is written last
            ids = np.flatnonzero(at >= 0)
            rows = prepared.rows[np.searchsorted(np.cumsum(column.lengths), at[ids], side="right")]
            for id, row in zip(ids.tolist(), rows.tolist()):
                found.setdefault(id, row)
        return found

    def remember(self) -> None:
        """Keep the hash of what will be trained, when all of it was prepared: the trainer compares (tuitune.dataset.looked_at)."""
        if "proven" in self.__dict__ and len(self.proven.numbers) == len(self.proven.built.train.rows):
            with suppress(OSError):  # a cache that cannot be written costs the comparison at run start, not the checks
                remember(self.recipe, self.proven.built.train.fingerprint(), hash_rows(self.trained.dataset).sha256)

    def row(self, number: int, split: str = "train") -> Where:
        """The place of a row."""
        places = (self.train if split == "train" else self.evaluation).places
        file, line = places[number]
        return Where(file, line, split=split, row=number, view="tokens" if split == "train" else "dataset")

    def weight_rows(self, tensor: Tensor, ids: "list[int] | None" = None) -> Any:
        """Rows of a 2-D tensor out of its file as float32, (len(ids), hidden); all rows when `ids` is None."""
        return read_rows(tensor, ids)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Every token of the tokenizer → id."""
        return dict(self.tokenizer.get_vocab())

    @cached_property
    def raw_vocabulary(self) -> dict[str, int]:
        """The same of tokenizer.json as it stands."""
        return dict(self.raw_tokenizer.get_vocab())

    @cached_property
    def rendered(self) -> list[Rendered]:
        """Some of the training conversations through the chat template; [] when the rows are plain text."""
        return rendered(self.tokenizer, self.train) if "conversational" in self.train.format else []

    @cached_property
    def free_token(self) -> str | None:
        """A special token that can be the padding: neither in the data nor in the template; None when there is none."""
        return free_token(self.tokenizer, self.embedding_rows, self.texts)

    @cached_property
    def texts(self) -> list[str]:
        """Every string of the training rows, and the chat template."""
        return [*texts_of(self.train), str(self.tokenizer.chat_template or "")]

    def some_texts(self, count: int, longest: int) -> list[str]:
        """Texts of a sample of training rows, cut to `longest` characters."""
        return some_texts(self.train, count, longest)

    @cached_property
    def missing_in_template(self) -> dict[str, bool]:
        """Special tokens by their variable's name that the chat template uses and the tokenizer has not → whether rendering fails."""
        return missing_in_template(self.tokenizer, self.train)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest training sequence before it is cut."""
        return longest_row(self.proven.prepared)

    def default_ends(self, ids: set[int]) -> bool:
        """Whether these end tokens are only what the config's class says by itself."""
        return ids == default_ends(str(self.model.config.get("model_type")))

    @cached_property
    def embedding_rows(self) -> int:
        """How many token ids the model has rows for; by the config when the weights are still to be fetched."""
        with suppress(NotHere):
            if self.model.input_embedding is not None:
                return self.model.input_embedding.shape[0]
        rows = self.model.text_config.get("vocab_size")
        if not isinstance(rows, int):
            raise NotHere("neither the weights nor config.json say how many rows the embedding has")
        return rows

    @cached_property
    def tables(self) -> list[Table]:
        """Figures of the input embedding and of the output head, when that is a tensor of its own and the model uses it."""
        tensors = [self.model.input_embedding, None if self.model.tied else self.model.output_embedding]
        return [table(tensor, list(self.used)) for tensor in tensors if tensor is not None]

    def same(self, one: Tensor, other: Tensor) -> bool:
        """Whether two tensors hold the same numbers."""
        return same(one, other)

    @cached_property
    def untrained_ids(self) -> dict[int, str]:
        """Special and other added tokens of the training rows whose row of the embedding (or of the head) was never trained → why."""
        special = list(added_tokens(self.tokenizer))
        used = [id for id in special if id in self.used]
        found: dict[int, str] = {}
        tables = self.tables if used else []
        blank = self.model.text_config.get("pad_token_id") if len(tables) > 1 else None  # a tied row of zeros cannot be said either
        for known in tables:
            for id, why in untrained(known, used, special, blank if known is tables[0] else None).items():
                found.setdefault(id, f"{known.tensor.name}: {why}")
        return found

    @cached_property
    def meta_model(self) -> Any:
        """The recipe's model on torch's meta device."""
        return meta_model(self.recipe)

    @cached_property
    def load_report(self) -> LoadReport:
        """What loading the weight files into it would say."""
        return load_report(self.meta_model, self.model.tensors)

    @cached_property
    def embedding_names(self) -> tuple[str, str]:
        """Names of the input embedding and the output head as modules; "" for none."""
        return embedding_names(self.meta_model)
