"""What the later checks look at: tokenizer, rows, weights; in an analyst worker. Each is made when it is first asked for, and once."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuitune.analyst.proven_set import ProvenSet, prove
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.trained_rows import Trained, trained
from tuitune.dataset.load import Split
from tuitune.dataset.looked_at import remember
from tuitune.errors import UserError
from tuitune.preflight.context import Context
from tuitune.preflight.finding import NotHere, Where
from tuitune.preflight.model_files import Tensor
from tuitune.recipe.new_tokens import rows_for
from tuitune.trainer.build import Built, begin, load_tokenizer, make_tokenizer
from tuitune.trainer.new_tokens import TOKENIZER, adapter_file, added_ids, grown_to
from tuitune.trainer.prepared import hash_rows

if TYPE_CHECKING:
    from tuitune.analyst.coverage import Coverage, Part


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
        """tokenizers.Tokenizer of tokenizer.json as it stands. NotHere when the model has none."""
        from tokenizers import Tokenizer

        file = self.tokenizer_folder / "tokenizer.json"
        if not file.exists():
            raise NotHere("the model has no tokenizer.json")
        return Tokenizer.from_file(str(file))

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
            if not name.endswith("_ids"):
                continue
            ids, first = np.unique(column.values, return_index=True)
            ends = np.cumsum(column.lengths)
            rows = prepared.rows[np.searchsorted(ends, first, side="right")]
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
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(tensor.file), framework="pt") as opened:
                part = opened.get_slice(tensor.name)
                if ids is None:
                    return part[:].float()
                return torch.cat([part[id : id + 1] for id in ids]).float() if ids else torch.zeros(0, tensor.shape[1])
        except SafetensorError as error:
            raise UserError(f"{Path(tensor.file).name} cannot be read ({error}); download it again") from error

    @cached_property
    def meta_model(self) -> Any:
        """The model's class without weights (tuitune.analyst.coverage)."""
        from tuitune.analyst.coverage import meta_model

        return meta_model(self.recipe)

    @cached_property
    def coverage(self) -> "Coverage":
        """What an adapter trains of the model, and what of its configuration has no effect."""
        from tuitune.analyst.coverage import coverage

        return coverage(self.recipe, self.meta_model)

    @property
    def lora_coverage(self) -> "list[Part]":
        """Every module with weights: trained, frozen or unreachable."""
        return self.coverage.parts

    @cached_property
    def attention_refusal(self) -> str:
        """Why the model's class refuses the attention implementation that the run takes, "" when it does not."""
        from tuitune.analyst.coverage import attention_refusal

        return attention_refusal(self.recipe, self.meta_model)

    @cached_property
    def documents_apart(self) -> tuple[str, str]:
        """Whether packed rows see only themselves: ("yes" | "no" | "unknown", why)."""
        from tuitune.analyst.packing import documents_apart

        return documents_apart(self.proven.built)

    @cached_property
    def masks_assistant(self) -> bool:
        """Whether the template can say which tokens are the assistant's: it has markers, or TRL a training template of its own for it."""
        from trl.chat_template_utils import get_training_chat_template, has_generation_markers

        try:
            return has_generation_markers(self.template) or bool(get_training_chat_template(self.tokenizer))
        except ValueError:
            return False

    # New tokens (tuitune.recipe.new_tokens): what the trainer makes of the model before the first step

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer comes from: the model's folder, or the adapter's when it was saved with one."""
        named = self.recipe.model.get("adapter")
        brought = adapter_file(named, TOKENIZER) if named else None
        return brought.parent if brought else self.model.folder

    @cached_property
    def new_ids(self) -> list[int]:
        """Ids of tokenizer.add_special_tokens, whose rows are made at the mean and trained whatever the weights hold there."""
        return added_ids(self.recipe, self.tokenizer)

    @cached_property
    def embedding_rows(self) -> int | None:
        """Rows of the input embedding as it is trained: with those of new tokens, or as the adapter brings them. None without weights."""
        embedding = self.model.input_embedding
        if embedding is None:
            return None
        rows = embedding.shape[0]
        if not self.recipe.model.get("adapter"):
            return rows_for(rows, self.new_ids)
        return grown_to(rows, self.adapter, self.tokenizer) or rows
