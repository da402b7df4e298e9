"""What the later checks look at, in an analyst worker: beside the rows the tokenizer, the weights, the architecture, the adapter."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.analyst.meta_model import LoadReport, default_ends, embedding_names, load_report, meta_model
from tuitune.analyst.row_context import RowContext
from tuitune.analyst.token_facts import (
    Rendered,
    Table,
    added_tokens,
    free_token,
    missing_in_template,
    read_rows,
    rendered,
    same,
    table,
    untrained,
)
from tuitune.preflight.finding import NotHere
from tuitune.preflight.model_files import ModelFiles, Tensor
from tuitune.recipe.new_tokens import rows_for
from tuitune.trainer.new_tokens import TOKENIZER, adapter_file, added_ids, grown_to

if TYPE_CHECKING:
    from tuitune.analyst.coverage import Coverage, Part


@dataclass
class CheckContext(RowContext):
    """Each thing is made when it is first asked for, and once. UserError when the recipe's fault prevents it."""

    @cached_property
    def raw_tokenizer(self) -> Any:
        """tokenizers.Tokenizer of tokenizer.json as it stands. NotHere when the model has none that can be read."""
        from tokenizers import Tokenizer

        file = self.tokenizer_folder / "tokenizer.json"
        if not file.exists():
            raise NotHere("the model has no tokenizer.json")
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust side raises nothing more special
            raise NotHere("tokenizer.json cannot be read, which loading the tokenizer tells") from error

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
    def missing_in_template(self) -> dict[str, bool]:
        """Special tokens by their variable's name that the chat template uses and the tokenizer has not → whether rendering fails."""
        return missing_in_template(self.tokenizer, self.train)

    def default_ends(self, ids: set[int]) -> bool:
        """Whether these end tokens are only what the config's class says by itself."""
        return ids == default_ends(str(self.model.config.get("model_type")))

    @cached_property
    def embedding_rows(self) -> int:
        """How many token ids have rows in training, with those of new tokens and of an adapter that brings its own; by the config when the
        weights are still to be fetched."""
        rows = None
        with suppress(NotHere):
            if self.model.input_embedding is not None:
                rows = self.model.input_embedding.shape[0]
        if rows is None:
            rows = self.model.text_config.get("vocab_size")
        if not isinstance(rows, int):
            raise NotHere("neither the weights nor config.json say how many rows the embedding has")
        if not self.recipe.model.get("adapter"):
            return rows_for(rows, self.new_ids)
        return grown_to(rows, self.adapter, self.tokenizer) or rows

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
        used = [id for id in special if id in self.used and id not in self.new_ids]
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
    def brought_tokens(self) -> set[str]:
        """Tokens that an earlier run added: those of the adapter's tokenizer that the model's lacks."""
        own = {text for _, text in self.model.added_tokens}
        return {text for _, text in ModelFiles(self.tokenizer_folder).added_tokens} - own

    @cached_property
    def new_ids(self) -> list[int]:
        """Ids of tokenizer.add_special_tokens, whose rows are made at the mean and trained whatever the weights hold there."""
        return added_ids(self.recipe, self.tokenizer)
