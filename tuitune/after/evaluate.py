"""The job `eval`: a trained model on rows that it has not learnt from, beside its base on the same rows, and a report of both.

With an adapter both are the same weights, the adapter left out for the base; a full fine-tuning's base is loaded after it. In 4 bits or in
16 as it was trained, unless asked otherwise.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tuitune.after import forgetting, generate, harness, report
from tuitune.after.examples import Example, examples
from tuitune.after.figures import Scores, figures
from tuitune.after.job import Job
from tuitune.after.ledger_facts import adapter_hash, merged_from, name_in
from tuitune.after.loading import load
from tuitune.after.measuring import Rows, score
from tuitune.after.metrics import Wanted
from tuitune.after.source import Source, base_of, find_source
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.trainer.forgetting import LONGEST, Text, probe_of
from tuitune.trainer.new_tokens import added_ids, make_rows
from tuitune.trainer.split_batch import free

CHUNK = 128  # rows between two looks at whether somebody wants it to end
MAX_NEW_TOKENS = 256


@dataclass(frozen=True)
class Arguments:
    """A job's `args`, plain JSON. `data`: sources as in `dataset.eval`, absolute paths, None: the recipe's own; `forgetting`: "builtin", a
    file or "none"; `harness`: tasks; `rows`: at most so many of the data, and of each task; `four_bit`: None as trained."""

    source: str
    words: str | None = None
    data: list[dict[str, Any]] | None = None
    metrics: list[str] | None = None
    pattern: str | None = None
    against: Literal["base", "none"] | None = None
    rows: int | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    forgetting: str | None = None
    harness: list[str] | None = None
    four_bit: bool | None = None
    dtype: str | None = None

    @classmethod
    def of(cls, args: dict[str, Any]) -> "Arguments":
        """Without what the hub reads."""
        return cls(**{key: value for key, value in args.items() if key in cls.__dataclass_fields__})


def run(job: Job) -> dict[str, Any]:
    """Measure, write the report, and return where it lies with its figures. UserError for whatever the user can put right."""
    evaluation = Evaluation(job, Arguments.of(job.args))
    evaluation.measure()
    document = evaluation.document()
    source = evaluation.source
    places = report.write(job.run.path, document, source.run.path if source.run is not None else None)
    for text in document["warnings"]:
        job.warn(text)
    return {**places, "sides": document["sides"], "figures": document["figures"], "forgetting": document["forgetting"]}


class Evaluation:
    """One evaluation: what is wanted, and what each side has made of it so far."""

    def __init__(self, job: Job, args: Arguments) -> None:
        self.job, self.args = job, args
        self.started = time.time()
        if args.harness:
            harness.require()  # before minutes of loading
        self.source = find_source(args.source, job.workspace)
        recipe = self.source.recipe
        trained = bool(self.source.quantized or (recipe and (recipe.quantization or {}).get("load_in_4bit")))
        self.four_bit = trained if args.four_bit is None else args.four_bit
        self.weights = _weights(self.source)
        self.base = self._base()
        self.sides: list[str] = ["base", self.source.kind] if self.base else [self.source.kind]
        self.examples = self._examples()
        self.wanted = self._wanted()
        self.scores = {side: [Scores() for _ in self.examples] for side in self.sides}
        self.done = dict.fromkeys(self.sides, 0)
        self.text_losses: dict[str, list[tuple[float, int]]] = {}
        self.harness: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.device = self.precision = ""
        self.rows: Rows | None = None
        if self.base is not None and self.source.recipe is not None and self.source.recipe.tokenizer.get("add_special_tokens"):
            self.warnings.append("this training added tokens that its base has never seen: the base's figures say little of rows with them")

    def _base(self) -> Source | None:
        if self.args.against == "none":
            return None
        try:
            return base_of(self.source)
        except UserError:
            if self.args.against == "base":
                raise
            return None  # a base model by itself

    def _examples(self) -> list[Example]:
        recipe = self.source.recipe
        sources = self.args.data if self.args.data is not None else (recipe.dataset["eval"] if recipe else [])
        if sources:
            return examples(sources, self.args.rows)
        if self.args.harness or self.args.forgetting not in (None, "none"):
            return []
        whose = f"{self.source.words} has no dataset.eval" if recipe else f"nobody knows data for {self.source.words}"
        raise UserError(f"{whose}: name rows it has not learnt from, --data FILE")

    def _wanted(self) -> Wanted:
        chooses = any(example.choices for example in self.examples)
        names = tuple(self.args.metrics or (["nll", "choice"] if chooses else ["nll"]))
        if "choice" in names and not chooses:
            raise UserError("choice needs rows with choices: --columns user=…,choices=…,label=…, or chosen and rejected answers")
        wanted = Wanted(names, self.args.pattern)
        if self.examples and wanted.generated and not any(example.asked for example in self.examples):
            raise UserError("exact and regex need rows with a question and an answer; these are plain text: measure nll alone")
        return wanted

    @cached_property
    def texts(self) -> list[Text]:
        """The texts of the forgetting probe; none without a base to compare with, unless they are asked for."""
        named = self.args.forgetting or ("builtin" if self.base else "none")
        if named == "none":
            return []
        probe = probe_of({"forgetting_probe": named}, self.job.workspace)
        return probe.texts if probe else []

    # --- measuring ----------------------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Every side on everything, until it is done or somebody wants it to end."""
        own = self.source.kind
        model, tokenizer = load(self.source, adapter=True, four_bit=self.four_bit, dtype=self.args.dtype, device=self._device)
        self.device, self.precision = _name_of(model), _precision(model)
        self.job.state("running")
        self.rows = Rows.of(self.examples, self.wanted, _recipe(self.source, self.job), tokenizer)
        if self.base is None or own == "adapter":
            self._measure(model, tokenizer, self.sides)
            return
        self._measure(model, tokenizer, [own])
        del model
        free()
        if not self.job.stopped():
            self._measure(self._load_base(tokenizer), tokenizer, ["base"])

    @property
    def _device(self) -> str | None:
        return "cpu" if self.job.args.get("gpus") == "cpu" else None

    def _load_base(self, tokenizer: Any) -> Any:
        """The model before a full fine-tuning, which reads the same ids: with rows for its new tokens as the training made them."""
        assert self.base is not None
        model, _ = load(self.base, adapter=False, four_bit=self.four_bit, dtype=self.args.dtype, device=self._device)
        recipe = self.source.recipe
        if recipe is not None and (new := added_ids(recipe, tokenizer)):
            make_rows(model, new, int(recipe.training.get("seed", 42)))
        return model

    def _measure(self, model: Any, tokenizer: Any, sides: list[str]) -> None:
        """One model, with its adapter and without it chunk by chunk, so that whoever stops early has the same rows of both."""
        count, rows = len(self.examples), self.rows
        assert rows is not None
        for chunk in (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)):
            for side in sides:
                if self.job.stopped():
                    return
                with suppress(_Enough), _as(model, side, self.source.kind):
                    told = _Progress(self.job, sum(self.done.values()), count * len(self.sides), side)
                    score(model, tokenizer, rows, chunk, self.wanted, self.scores[side], self.args.max_new_tokens, told)
                    self.done[side] += len(chunk)
                self.job.progress(sum(self.done.values()), count * len(self.sides), f"rows, {side}")
        for side in sides:
            if self.job.stopped():
                return
            with _as(model, side, self.source.kind):
                self._read_texts(model, tokenizer, side)
                self._run_harness(model, tokenizer, side)

    def _read_texts(self, model: Any, tokenizer: Any, side: str) -> None:
        ids = [tokenizer(text.text)["input_ids"][:LONGEST] for text in self.texts]
        self.text_losses[side] = generate.losses(model, [(row, row) for row in ids])

    def _run_harness(self, model: Any, tokenizer: Any, side: str) -> None:
        if self.args.harness:
            self.job.state("evaluating", f"lm-evaluation-harness on {side}: {', '.join(self.args.harness)}")
            found = harness.measure(model, tokenizer, self.args.harness, self.args.rows)
            self.harness += [{**one, "side": side} for one in found]

    # --- what was found -----------------------------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        """The report as plain data (tuitune.after.report)."""
        done = min(self.done.values())
        rows = {side: scores[:done] for side, scores in self.scores.items()}
        found = self._forgetting()
        if found and (told := forgetting.warning(found)):
            self.warnings.insert(0, told)
        return {
            "schema": 1,
            "created": self.started,
            "seconds": time.time() - self.started,
            "device": self.device,
            "source": {
                "words": self.args.words or self.source.words,
                "kind": self.source.kind,
                "base": self.source.base,
                "precision": self.precision,
                "run": self.source.run.name if self.source.run else None,
                **self.weights,
            },
            "sides": self.sides,
            "data": self._data(done),
            "generation": {"max_new_tokens": self.args.max_new_tokens} if self.wanted.generated and self.examples else None,
            "pattern": self.wanted.pattern,
            "figures": [figure.as_dict() for figure in figures(rows)] if done else [],
            "forgetting": {
                "probe": self.args.forgetting or "builtin",
                "limit": forgetting.LIMIT,
                "skills": [one.as_dict() for one in found],
            }
            if found
            else None,
            "harness": {"version": harness.installed(), "results": self.harness} if self.harness else None,
            "warnings": self.warnings,
            "rows": [self._row(number) for number in range(done)],
        }

    def _data(self, done: int) -> dict[str, Any] | None:
        if not self.examples:
            return None
        files = list(dict.fromkeys(example.file for example in self.examples))
        unmeasured = self.rows.unmeasured if self.rows is not None and "nll" in self.wanted.names else 0
        return {"files": files, "rows": len(self.examples), "done": done, "unmeasured": unmeasured}

    def _forgetting(self) -> list[forgetting.Change]:
        if self.base is None or len(self.text_losses) < 2 or not self.texts:
            return []
        return forgetting.changes(self.texts, self.text_losses["base"], self.text_losses[self.source.kind])

    def _row(self, number: int) -> dict[str, Any]:
        example = self.examples[number]
        sides = {side: scores[number].as_dict() for side, scores in self.scores.items()}
        return {"row": number, "file": example.file, "line": example.line, "gold": example.gold, "right": example.right, "sides": sides}


class _Enough(Exception):
    """Somebody wants it to end in the middle of a chunk, which is then left out."""


class _Progress:
    """Tells what is done of a chunk; its rows count when every metric has them."""

    def __init__(self, job: Job, before: int, total: int, side: str) -> None:
        self.job, self.before, self.total, self.side = job, before, total, side

    def __call__(self, what: str, count: int) -> None:
        self.job.progress(self.before, self.total, f"{what}, {self.side}")
        if self.job.stopped():
            raise _Enough


@contextmanager
def _as(model: Any, side: str, kind: str) -> Iterator[None]:
    """The model as one side of the comparison: an adapter is left out for its base."""
    if side == "base" and kind == "adapter":
        with model.disable_adapter():
            yield
    else:
        yield


def _precision(model: Any) -> str:
    """What the weights are computed from, by the model as it was loaded."""
    if getattr(model, "is_loaded_in_8bit", False):
        return "8 bits"
    return "4 bits" if getattr(model, "is_loaded_in_4bit", False) else str(model.dtype).removeprefix("torch.")


def _weights(source: Source) -> dict[str, str | None]:
    """What tells these weights from others of their run, which trains on and has checkpoints (tuitune.after.ledger_facts)."""
    folder = source.adapter or Path(source.base)
    known = folder.is_dir()
    return {
        "folder": name_in(source.run, folder) if known and source.run is not None else None,
        "adapter_sha256": (adapter_hash(folder) or merged_from(folder)) if known else None,
    }


def _recipe(source: Source, job: Job) -> Recipe:
    """What says how rows are prepared: the training's recipe, for a model without one the libraries' defaults. It names the model that
    is measured."""
    model = {"name_or_path": source.base, "revision": source.revision, "trust_remote_code": source.trust_remote_code}
    if source.recipe is not None:
        return replace(source.recipe, model={**source.recipe.model, **model})
    sections: dict[str, Any] = {"tokenizer": {}, "dataset": {}, "training": {}, "launch": {}, "output": {}}
    return Recipe(job.run.recipe, job.workspace, source.name, "sft", model, None, None, watch=None, **sections)


def _name_of(model: Any) -> str:
    import torch

    return torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "CPU"
