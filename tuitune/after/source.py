"""What a job works on: a run's result, a checkpoint, an adapter, a model's folder or a model of the Hub. Imports no torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tuitune.errors import UserError
from tuitune.preflight.model_files import AdapterFiles, ModelFiles, locate_model
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import Recipe, from_document
from tuitune.runs.directory import RunDirectory, runs_folder
from tuitune.runs.listing import find_run, list_runs
from tuitune.runs.manifest import read_manifest
from tuitune.runs.results import result_of
from tuitune.runs.resume import starting_point
from tuitune.text import printable

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Source:
    """`base`: an absolute folder or a Hub id, `revision` of it; `adapter`: the folder of the adapter over it. `recipe` and `run`: of the
    training that made it, where it is known. `quantized`: trained on a base in 4 or 8 bits. `words`: its name for people, printable."""

    words: str
    base: str
    revision: str | None
    adapter: Path | None
    recipe: Recipe | None
    run: RunDirectory | None
    kind: Literal["adapter", "model"]
    quantized: bool

    @property
    def reference(self) -> str:
        """What `find_source` takes for this source, whatever the folder it is asked in."""
        return str(self.adapter) if self.adapter is not None else self.base

    @property
    def hub_names(self) -> list[str]:
        """What of it comes from the Hub, unless the cache has it."""
        return [] if Path(self.base).is_absolute() else [self.base]

    @property
    def name(self) -> str:
        """A short name, for a job's directory: the run's, else the model's last part."""
        if self.run is not None:
            return read_manifest(self.run).name
        return Path(self.reference).name

    @property
    def judges(self) -> bool:
        """Whether it is a reward model, which scores texts and writes none: by its recipe, else by its own configuration."""
        if self.recipe is not None:
            return self.recipe.task == "reward"
        folder = self.adapter or locate_model({"name_or_path": self.base, "revision": self.revision})
        return folder is not None and is_judge(AdapterFiles(folder).config if self.adapter else ModelFiles(folder).config)

    def must_write(self, what: str) -> None:
        """UserError for a reward model, of which `what` (a few words) makes no sense."""
        if self.judges:
            raise UserError(f"{self.words} is a reward model: it judges texts and writes none, so there is {what}")

    @property
    def trust_remote_code(self) -> bool:
        """Whether the recipe has allowed the model's own code."""
        return bool(self.recipe and self.recipe.model.get("trust_remote_code") is True)

    def over(self, base: str) -> "Source":
        """The same over another base, whose code the recipe has not allowed."""
        return replace(self, base=base, revision=None, recipe=_without_trust(self.recipe))


def is_judge(config: Mapping[str, Any]) -> bool:
    """Whether an adapter_config.json or config.json is of a model with a classification head."""
    architectures = config.get("architectures")
    named = architectures if isinstance(architectures, list) else []
    return config.get("task_type") == "SEQ_CLS" or any(str(name).endswith("ForSequenceClassification") for name in named)


def find_source(text: str, workspace: Path) -> Source:
    """The source that a person means: a folder, a run's name (or a unique beginning of one), or a Hub id. UserError with the remedy."""
    folder = workspace / Path(text).expanduser()
    if folder.is_dir():
        return _of_folder(Path(os.path.normpath(folder)), workspace)
    if text.startswith((".", "/", "~")):
        raise UserError(f"{printable(text)} does not exist; name a run, a folder with an adapter or a model, or a Hub id")
    runs = runs_folder(workspace)
    if any(run.id.startswith(text) for run in list_runs(runs)):
        return _of_run(find_run(runs, text), workspace)
    if not _HUB_ID.fullmatch(text):
        raise UserError(f"{printable(text)} is no run here, no folder and no Hub id; `tuitune runs` lists the runs")
    return _of_hub(text, workspace)


def base_of(source: Source) -> Source:
    """The model that `source` was trained from. UserError when nobody knows it."""
    if source.adapter is None:
        known = source.recipe.model["name_or_path"] if source.recipe else source.base
        if known == source.base:
            raise UserError(
                f"{source.words} is a base model itself, or its recipe is not here: name the other model by its folder or Hub id"
            )
        revision = source.recipe.model.get("revision") if source.recipe else None
        return Source(_short(known), known, revision, None, source.recipe, None, "model", source.quantized)
    return Source(_short(source.base), source.base, source.revision, None, source.recipe, None, "model", source.quantized)


def _short(base: str) -> str:
    """A model's name for people: a Hub id, or a folder's last part."""
    return printable(Path(base).name if Path(base).is_absolute() else base)


def _of_folder(folder: Path, workspace: Path) -> Source:
    if RunDirectory(folder).manifest.is_file():
        return _of_run(RunDirectory(folder), workspace)
    holders = (RunDirectory(parent) for parent in (folder.parent, folder.parent.parent))
    run = next((one for one in holders if one.manifest.is_file()), None)
    near = folder.relative_to(workspace) if folder.is_relative_to(workspace) else folder
    return _of_result(folder, run, printable(f"{run.name}/{folder.relative_to(run.path)}" if run else str(near)), workspace)


def _of_run(run: RunDirectory, workspace: Path) -> Source:
    """A run's result, or its newest whole checkpoint when that is newer or there is nothing else."""
    manifest = read_manifest(run)
    if manifest.kind != "train":
        path = (result_of(run, manifest) or {}).get("path")
        if not (isinstance(path, str) and Path(path).is_dir()):
            raise UserError(f"{run.name} is a job ({manifest.kind}) that has left no model; name the run itself")
        return _of_result(Path(path), run, printable(run.name), workspace)
    checkpoint = starting_point(run).checkpoint
    newest = run.checkpoints / checkpoint if checkpoint else None
    if run.adapter.is_dir() and (newest is None or newest.stat().st_mtime <= run.adapter.stat().st_mtime):
        return _of_result(run.adapter, run, printable(run.name), workspace)
    if newest is not None:
        return _of_result(newest, run, printable(f"{run.name}, {newest.name}"), workspace)
    raise UserError(
        f"{run.name} has nothing to work on yet, neither a result nor a whole checkpoint: let it train on, or have it save one "
        f"(tuitune send {run.name} save)"
    )


def _of_result(folder: Path, run: RunDirectory | None, words: str, workspace: Path) -> Source:
    """An adapter's or a model's folder, of a training or from elsewhere."""
    recipe = _recipe(run) if run is not None else None
    if run is not None and not _is_ours(run, workspace):
        recipe = _without_trust(recipe)
    bits = (recipe.quantization if recipe else None) or {}
    quantized = bool(bits.get("load_in_4bit") or bits.get("load_in_8bit"))
    if (folder / ADAPTER).is_file():
        base, revision = _base(folder, recipe, workspace)
        return Source(words, base, revision, folder, recipe, run, "adapter", quantized)
    if (folder / "config.json").is_file():
        return Source(words, str(folder), None, None, recipe, run, "model", False)
    raise UserError(
        f"{printable(str(folder))} is no run and has neither an adapter ({ADAPTER}) nor a model (config.json): name a run, such a folder "
        "or a Hub id"
    )


def _base(folder: Path, recipe: Recipe | None, workspace: Path) -> tuple[str, str | None]:
    """The model that an adapter belongs to, and its revision: by the recipe, else by what peft has written."""
    if not (folder / WEIGHTS).is_file():
        raise UserError(
            f"{printable(str(folder))} has no {WEIGHTS}, and tuitune loads no pickled weights (.bin): convert it, or copy it again"
        )
    if recipe is not None:
        return str(recipe.model["name_or_path"]), recipe.model.get("revision")
    written: dict[str, Any] = AdapterFiles(folder).config
    base = written.get("base_model_name_or_path")
    if not base:
        raise UserError(f"{printable(str(folder / ADAPTER))} does not say which model it belongs to: write it at base_model_name_or_path")
    local = workspace / Path(str(base)).expanduser()
    return str(local.resolve()) if local.is_dir() else str(base), written.get("revision")


def _is_ours(run: RunDirectory, workspace: Path) -> bool:
    """Whether it is a run of this workspace: a recipe that came with somebody's folder allows nothing here."""
    runs = runs_folder(workspace)
    return runs.is_dir() and any(run.path.resolve() == one.resolve() for one in runs.iterdir())


def _without_trust(recipe: Recipe | None) -> Recipe | None:
    return replace(recipe, model={**recipe.model, "trust_remote_code": False}) if recipe is not None else None


def _recipe(run: RunDirectory) -> Recipe | None:
    """The recipe of a run, which was checked when it was started; None for a job that has none of a training."""
    document, manifest = read_document(run.recipe), read_manifest(run)
    try:
        return from_document(document, run.recipe, Path(manifest.recipe_path).parent if manifest.recipe_path else run.path)
    except (KeyError, TypeError, AttributeError) as error:
        if manifest.kind != "train":
            return None
        raise UserError(
            f"{printable(str(run.recipe))} is no recipe any more: was it edited? Name the adapter's folder elsewhere"
        ) from error


def _of_hub(name: str, workspace: Path) -> Source:
    """A model or adapter by its Hub id: what is in the cache decides, else the Hub is asked."""
    from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

    from tuitune.network import settle_network

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return Source(name, name, None, None, None, None, "model", False)
    adapter = try_to_load_from_cache(name, ADAPTER)
    if not isinstance(adapter, str):
        unreachable = settle_network([name])
        try:
            adapter = hf_hub_download(name, ADAPTER)
        except Exception as error:
            if unreachable or "Repo" in type(error).__name__:
                known = ", ".join(run.id for run in list_runs(runs_folder(workspace))[:4]) or "none yet"
                reason = unreachable or "the Hub has no such model, or it is private (hf auth login)"
                raise UserError(f"{printable(name)} is no run here ({known}), no folder, and not to be had: {reason}") from error
            return Source(name, name, None, None, None, None, "model", False)  # a model without an adapter; loading it says the rest
    folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]))
    base, revision = _base(folder, None, workspace)
    return Source(name, base, revision, folder, None, None, "adapter", False)
