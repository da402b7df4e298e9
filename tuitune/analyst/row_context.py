"""The rows of a recipe for checks: as they stand in their files, as the template renders them, as the trainer prepares them."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tuitune.analyst.answers import Answers, answers, cut_alike
from tuitune.analyst.lineage import Ancestor, ancestors
from tuitune.analyst.prepared_rows import READERS
from tuitune.analyst.prompt_borders import Border, string_borders
from tuitune.analyst.proven_set import ProvenSet, prove
from tuitune.analyst.raw_rows import RawSplit, raw_split
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.rendered_rows import RenderedRows, missing_template, rendered_rows
from tuitune.analyst.sequence_lengths import sequence_lengths
from tuitune.analyst.token_facts import longest_row, some_texts, texts_of
from tuitune.analyst.trained_rows import Trained, trained
from tuitune.dataset.lengths import stamp
from tuitune.dataset.load import Split
from tuitune.dataset.looked_at import remember
from tuitune.preflight.context import Context
from tuitune.preflight.data.near import WordBook, Words
from tuitune.preflight.finding import NotHere, Where
from tuitune.trainer.build import Built, begin, load_tokenizer, make_tokenizer
from tuitune.trainer.methods import Method, method_for
from tuitune.trainer.prepared import hash_rows


@dataclass
class RowContext(Context):
    """`watch` and `progress` are the worker's. Everything below raises UserError when the recipe's fault prevents it."""

    watch: RenderWatch
    progress: Callable[[str], None]
    _raw: dict[str, RawSplit] = field(default_factory=dict)
    _words: dict[int, Words] = field(default_factory=dict)
    _stamp: dict[str, Any] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._stamp = stamp(self.recipe)  # of the files before they are read

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """AutoTokenizer's, before the recipe's pad token, new tokens and template are put in."""
        return load_tokenizer(self.recipe)

    @cached_property
    def tokenizer(self) -> Any:
        """As the trainer gets it. NotHere when the check of `missing_template` says that it lacks what the rows need."""
        if self.missing_template:
            raise NotHere(f"there is no chat template for these rows ({self.missing_template})")
        changed = any(self.recipe.tokenizer.values())  # else one object serves as both: a large vocabulary takes seconds to load
        return make_tokenizer(self.built, None if changed else self.loaded_tokenizer)

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
        """All training rows prepared as TRL does (tuitune.analyst.proven_set). NotHere for tasks whose rows cannot be prepared yet,
        and where a check of the template says why they would not be."""
        if self.recipe.task not in READERS:
            raise NotHere(f"rows of task {self.recipe.task} are checked as they stand in their files only")
        if self.stopped:
            raise NotHere(self.stopped)
        mine = replace(self.recipe, training=dict(self.recipe.training))  # it takes out what asks for an evaluation
        return prove(mine, self.watch, self.progress, begun=replace(self.built, recipe=mine), tokenizer=self.tokenizer)

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
        """Keep the hash and the lengths of what will be trained, when all of it was prepared: the trainer compares, the memory plan reads
        (tuitune.dataset.looked_at)."""
        if "proven" in self.__dict__ and len(self.proven.numbers) == len(self.proven.built.train.rows):
            lengths = sequence_lengths(self.proven, self.trained, self.watch, self.progress)
            with suppress(OSError):  # a cache that cannot be written costs the comparison at run start, not the checks
                hashed = hash_rows(self.trained.dataset).sha256
                remember(self.recipe, self.proven.built.train.fingerprint(), hashed, lengths, self._stamp)

    def row(self, number: int, split: str = "train") -> Where:
        """The place of a row."""
        places = (self.train if split == "train" else self.evaluation).places
        file, line = places[number]
        return Where(file, line, split=split, row=number, view="tokens" if split == "train" else "dataset")

    def raw(self, split: str) -> RawSplit:
        """The rows of dataset.<split> as they stand in their files."""
        if split not in self._raw:
            self.progress(f"reading the rows of dataset.{split}")
            self._raw[split] = raw_split(self.recipe, split)
        return self._raw[split]

    @property
    def raw_splits(self) -> list[RawSplit]:
        """`raw` of all splits that the recipe has."""
        return [self.raw(split) for split in ("train", "eval") if self.recipe.dataset.get(split)]

    @cached_property
    def template_source(self) -> str:
        """The recipe's chat template, or the model's; "" when there is none. Unlike `template` it can be had when the rows cannot."""
        named = self.recipe.tokenizer.get("chat_template")
        if named and Path(named).is_file():
            return Path(named).read_text(encoding="utf-8", errors="replace")
        found = self.loaded_tokenizer.chat_template
        return str(found.get("default", "") if isinstance(found, dict) else found or "")

    @cached_property
    def word_book(self) -> WordBook:
        """The numbers of words in this check."""
        return WordBook()

    def words(self, split: RawSplit) -> Words:
        """What the rows of split.fit say, by `word_book`."""
        if id(split) not in self._words:
            self._words[id(split)] = self.word_book.words([row.content for row, _ in split.fit])
        return self._words[id(split)]

    @cached_property
    def method(self) -> Method:
        """TRL's classes for the task, and what rows they train on."""
        return method_for(self.recipe.task)

    @cached_property
    def ancestors(self) -> list[Ancestor]:
        """The runs that the recipe's model or adapter comes from, with what they were evaluated on."""
        return list(ancestors(self.recipe))

    @cached_property
    def answers(self) -> Answers:
        """What of the rows is to be trained before anything is cut off."""
        return answers(self.proven.prepared)

    @cached_property
    def cut_alike(self) -> set[int]:
        """Training rows whose chosen and rejected tokens are the same once max_length has cut them. {} for tasks without `proven`."""
        if self.recipe.task != "dpo":
            return set()
        return cut_alike(self.proven.prepared, self.max_length, self.proven.built.trainer.args)

    @property
    def max_length(self) -> int | None:
        """As the trainer takes it, TRL's default included."""
        return getattr(self.proven.built.trainer.args, "max_length", None)

    @property
    def positions(self) -> int | None:
        """Tokens that the model can read; None when its config does not say."""
        found = self.model.text_config.get("max_position_embeddings")
        return found if isinstance(found, int) else None

    @cached_property
    def texts(self) -> list[str]:
        """Every string of the training rows, and the chat template."""
        return [*texts_of(self.train), str(self.tokenizer.chat_template or "")]

    def some_texts(self, count: int, longest: int) -> list[str]:
        """Texts of a sample of training rows, cut to `longest` characters."""
        return some_texts(self.train, count, longest)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest training sequence before it is cut."""
        return longest_row(self.proven.prepared)

    @cached_property
    def missing_template(self) -> str:
        """The check that tells why conversations have no template; "" when they have one."""
        return missing_template(self.loaded_tokenizer, self.recipe, self.built)

    @cached_property
    def renders(self) -> RenderedRows:
        """Conversations of both splits through the chat template in force. NotHere for plain text."""
        if "conversational" not in self.built.train.format:
            raise NotHere("the rows are plain text: no chat template is applied to them")
        return rendered_rows(self.recipe, self.built, self.tokenizer)

    @cached_property
    def stopped(self) -> str:
        """Why TRL would not prepare the training rows, where a check of the template tells it and in which row; "" else."""
        if self.missing_template:
            return f"there is no chat template for these rows ({self.missing_template})"
        if "conversational" not in self.built.train.format:
            return ""
        if self.renders.refusal:
            return "TRL has no training variant of the chat template (TPL03)"
        if self.renders.empty_masks:
            return "TRL refuses rows whose mask of the assistant is empty (TPL18)"
        if self.renders.prints_nothing:
            return "the chat template prints nothing of the rows (TPL11)"
        ids = [id for shape, _, ids in self.renders.explained if shape.split == "train" for id in ids]
        return f"the chat template refuses rows ({ids[0]})" if ids else ""

    @cached_property
    def prompt_borders(self) -> list[tuple[int, Border | None]]:
        """prompt_borders.string_borders of a sample, also of conversations. NotHere when prompt and answer cannot be told apart."""
        if "conversational" in self.built.train.format:
            return self.renders.borders()
        if self.built.train.format != "prompt-completion (text)":
            raise NotHere("the rows have no prompt that could be told from the answer")
        return string_borders(self.tokenizer, self.built.train.rows)
