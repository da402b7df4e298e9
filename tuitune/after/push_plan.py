"""What a push would send: an allow-list of a folder's files, each with its size and where it comes from. Nothing else ever goes.

Optimizer states, pickles, journals, logs and recipes are on no list. Imports no torch and asks no network, so that a dry run can show all
of it at once.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tuitune.after.card import Kind, Subject, has_template, model_card, public_base
from tuitune.after.ledger_facts import RunFacts, weights_of
from tuitune.after.private import short
from tuitune.after.source import is_judge
from tuitune.errors import UserError
from tuitune.secrets import Masker
from tuitune.text import printable

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
)
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", *TOKENIZER)
MODEL = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-[0-9]*-of-[0-9]*.safetensors",
    "model.safetensors.index.json",
    "*.gguf",
    *TOKENIZER,
)
VOCABULARY = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model"})
LONG = 20  # characters of what counts as a secret in a vocabulary, whose words are nobody's secret
REWRITTEN = ("adapter_config.json", "config.json", "tokenizer_config.json")  # here libraries note the folder a model came from
BASE_KEYS = ("base_model_name_or_path", "_name_or_path", "name_or_path")
CARD = "README.md"


@dataclass(frozen=True)
class PushFile:
    """A file of the repository. `source`: the file on this box, or the bytes themselves when they are made for the push; `origin`: in
    words, where it comes from."""

    name: str
    size: int
    origin: str
    source: Path | bytes

    @property
    def heavy(self) -> bool:
        """Whether it holds weights."""
        return self.name.endswith((".safetensors", ".gguf"))


@dataclass(frozen=True)
class PushPlan:
    """All of one push; `files` in the order in which they go: small ones first. `left`: names in the folder that do not go."""

    repo: str
    kind: Kind
    private: bool
    files: tuple[PushFile, ...]
    left: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files)

    def document(self) -> dict[str, Any]:
        """Plain data for --json."""
        files = [{"name": file.name, "bytes": file.size, "origin": file.origin} for file in self.files]
        return {
            "repo": self.repo,
            "kind": self.kind,
            "private": self.private,
            "bytes": self.bytes,
            "files": files,
            "left": list(self.left),
        }


def plan_push(folder: Path, repo: str, *, public: bool = False, base: str | None = None, facts: RunFacts | None = None) -> PushPlan:
    """What of `folder` (an adapter or a model) would go to the Hub repository `repo`.

    `base`: the base model's name on the Hub, when it is only a folder here; `facts`: of the run that made it. UserError when the folder
    holds neither, the repository's name is none, or a secret stands in a file, with the file and line.
    """
    _check_name(repo)
    kind = kind_of(folder)
    config = _json(folder / ("adapter_config.json" if kind == "adapter" else "config.json"))
    merged = _json(folder / "merge.json") if (folder / "merge.json").is_file() else None
    name = public_base(_base_name(config, merged, facts, kind), base)
    names = sorted(_names(folder))
    allowed = ADAPTER if kind == "adapter" else MODEL
    chosen = [one for one in names if any(fnmatchcase(one, pattern) for pattern in allowed)]
    check, weights = (merged or {}).get("check"), weights_of(folder, facts) if facts is not None else None
    judges = is_judge(config) or (facts is not None and facts.value("recipe", "task") == "reward")
    subject = Subject(repo, kind, name, facts, has_template(folder), config.get("r"), config.get("dtype"), check, weights, judges)
    card = model_card(subject).encode()
    files = [PushFile(CARD, len(card), "made from the run's records" if facts else "made from the folder", card)]
    files += [_file(folder, one, name) for one in chosen]
    refuse_secrets(files)
    files.sort(key=lambda file: (file.heavy, file.name))
    return PushPlan(repo, kind, not public, tuple(files), tuple(one for one in names if one not in chosen))


def kind_of(folder: Path) -> Kind:
    """Adapter or whole model. UserError when the folder holds neither."""
    if (folder / "adapter_config.json").is_file():
        if not (folder / "adapter_model.safetensors").is_file():
            raise UserError(f"{printable(str(folder))} has no adapter_model.safetensors; pickled adapters (.bin) are not published")
        return "adapter"
    if (folder / "config.json").is_file() and (any(folder.glob("model*.safetensors")) or any(folder.glob("*.gguf"))):
        return "model"
    raise UserError(
        f"{printable(str(folder))} holds neither an adapter nor a model with safetensors; name a run that has ended, its `adapter` or "
        "`merged` folder, or a model's folder"
    )


def secrets_in(files: list[PushFile], masker: Masker) -> Iterator[tuple[str, int]]:
    """(file, line) wherever a text file holds what looks like a secret; never the secret itself."""
    for file in files:
        if file.heavy:
            continue
        text = (file.source if isinstance(file.source, bytes) else file.source.read_bytes()).decode(errors="replace")
        shortest = LONG if file.name in VOCABULARY else 0
        for number, line in enumerate(text.splitlines(), 1):
            if any(len(found) >= shortest for found in masker.find(line)):
                yield file.name, number


def refuse_secrets(files: list[PushFile], masker: Masker | None = None) -> None:
    """UserError that names the places when a secret would be published."""
    found = list(dict.fromkeys(secrets_in(files, masker or Masker())))
    if found:
        places = ", ".join(f"{name}:{line}" for name, line in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise UserError(
            f"a secret (a token, or the value of a variable named like one) stands in {printable(places)}: nothing is sent; take it out"
        )


def _check_name(repo: str) -> None:
    from huggingface_hub import utils
    from huggingface_hub.errors import HFValidationError

    validate: Any = utils

    try:
        validate.validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"{printable(repr(repo))} is no repository's name ({printable(str(error), limit=160)})", exit_code=2) from error
    if "/" not in repo:
        raise UserError(f"{printable(repo)}: say whose repository it is, e.g. your-name/{printable(repo)}", exit_code=2)


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != CARD:
            yield path.relative_to(folder).as_posix()


def _file(folder: Path, name: str, base: str) -> PushFile:
    path = folder / name
    try:
        _refuse_outside(folder, path)
        if name in REWRITTEN and (made := _rewritten(path, base)) is not None:
            return PushFile(name, len(made), f"{path}, folders of this box taken out", made)
        return PushFile(name, path.stat().st_size, str(path), path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def _refuse_outside(folder: Path, path: Path) -> None:
    """UserError for a link that leads out of the folder: what lies there was not meant. The Hub's own cache links into its `blobs`."""
    target, inside = path.resolve(), folder.resolve()
    places = [inside, *([inside.parents[1] / "blobs"] if inside.parent.name == "snapshots" else [])]
    if not any(target.is_relative_to(place) for place in places):
        shown = f"{printable(str(path))} is a link to {printable(str(target))}"
        raise UserError(f"{shown}, outside the folder: nothing is sent; put the file itself there")


def _rewritten(path: Path, base: str) -> bytes | None:
    """A JSON file without folders of this box, None when it names none."""
    found = _json(path)
    clean = {key: (base if key in BASE_KEYS else short(value)) if _is_path(value) else value for key, value in found.items()}
    return None if clean == found else (json.dumps(clean, indent=2, ensure_ascii=False) + "\n").encode()


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and Path(value).is_absolute() and "\n" not in value


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{printable(str(path))} cannot be read ({printable(str(error), limit=120)}); make it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{printable(str(path))} is no JSON object; make it again")
    return found


def _base_name(config: Mapping[str, Any], merged: Mapping[str, Any] | None, facts: RunFacts | None, kind: Kind) -> str:
    """The model that this was made from, as this box calls it."""
    named = config.get("base_model_name_or_path") if kind == "adapter" else (merged or {}).get("base")
    return str(named or (facts and facts.value("model", "name_or_path")) or config.get("_name_or_path") or "the base model")
