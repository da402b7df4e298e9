"""What a merge will need, from headers alone: type, bytes on disk and in memory, and where the result goes. Imports no torch."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tuitune.errors import UserError
from tuitune.files import file_hash
from tuitune.preflight.model_files import AdapterFiles, ModelFiles, locate_model
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.after.source import Source

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_HALF = {"BF16": "bfloat16", "F16": "float16"}
RECORD = "merge.json"  # beside the model: what was merged into what, and the check
GIB = 1 << 30


@dataclass(frozen=True)
class MergePlan:
    """`parameters` of the merged model. Bytes: `disk` of the new folder, `memory` at the peak of merging, `check` at that of the check
    (float32 weights; 0 without one). None where the base is not on this box yet."""

    out: Path
    dtype: str
    parameters: int | None
    disk: int | None
    memory: int | None
    check: int | None

    @property
    def peak(self) -> int | None:
        """The memory that is needed, in bytes."""
        return None if self.memory is None else max(self.memory, self.check or 0)

    def words(self) -> str:
        """One line for people."""
        if self.disk is None or self.peak is None:
            return f"merged in {self.dtype} into {self.out}; its size is known once the base is fetched"
        what = "the check computes in float32" if (self.check or 0) > (self.memory or 0) else "the base in 16 bits"
        return f"merged in {self.dtype} into {self.out}: {_size(self.disk)} on disk, {_size(self.peak)} of memory ({what})"


def plan_merge(source: "Source", out: Path | None = None, dtype: str | None = None, *, check: bool = True) -> MergePlan:
    """The plan for `source`. UserError when it is no adapter, its base is quantised itself, or `out` holds something else."""
    if source.adapter is None:
        raise UserError(f"{source.words} is a whole model already: there is nothing to merge; `tuitune export` and `push` take it as it is")
    target = out or default_out(source)
    if target.exists() and not (target / RECORD).is_file() and any(target.iterdir()):
        raise UserError(f"{printable(str(target))} holds something that is no merged model; name another folder with --out")
    folder = locate_model({"name_or_path": source.base, "revision": source.revision})
    if folder is None:
        return MergePlan(target, dtype or "bfloat16", None, None, None, None)
    files = ModelFiles(folder)
    if files.config.get("quantization_config"):
        raise UserError(
            f"the base {printable(source.base)} is quantised itself, and merged into it the adapter is lost in its rounding: "
            "name the full-precision model with --base"
        )
    shapes = [tensor.shape for tensor in files.tensors.values()]
    grown = AdapterFiles(source.adapter).input_embedding
    rows = files.input_embedding.shape[0] if files.input_embedding else 0
    more = max(0, grown.shape[0] - rows) * grown.shape[1] * (1 if files.tied else 2) if grown else 0
    parameters = sum(map(prod, shapes)) + more
    chosen = dtype or _own_type(files)
    size = BYTES[chosen] * parameters
    largest = max((prod(shape) for shape in shapes), default=0)
    memory = size + 12 * largest + 2 * sum(tensor.end - tensor.begin for tensor in AdapterFiles(source.adapter).tensors.values())
    return MergePlan(target, chosen, parameters, size, memory, 4 * parameters if check else 0)


def default_out(source: "Source") -> Path:
    """`merged` in the run's directory; beside an adapter that no run of ours made. UserError for one in the Hub's cache."""
    assert source.adapter is not None
    if source.run is not None:
        return source.run.path / "merged"
    if source.adapter.parent.name == "snapshots":
        raise UserError(f"{source.words} lies in the Hub's cache: say with --out where the merged model shall go")
    return source.adapter.with_name(f"{source.adapter.name}-merged")


def why_stale(folder: Path, source: "Source", *, same_base: bool = True) -> str | None:
    """Why the merge in `folder` is not that of `source` as it is now; None when it is. Without `same_base` another base (--base) is no
    reason."""
    record = _record(folder)
    if source.adapter is None or record.get("adapter_sha256") != file_hash(source.adapter / "adapter_model.safetensors"):
        return f"{printable(str(folder))} is the merge of another adapter than {source.words} is now"
    if same_base and (record.get("base"), record.get("revision")) != (source.base, source.revision):
        return f"{printable(str(folder))} is a merge over another base ({printable(str(record.get('base')))})"
    return None


def failed_check(folder: Path) -> str | None:
    """Why the merge in `folder` failed its check; None when it passed, or none was made."""
    check = _record(folder).get("check") or {}
    failed = check.get("passed") is False
    return f"the merge in {printable(str(folder))} failed its check ({printable(str(check.get('words')))})" if failed else None


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def require_room(plan: MergePlan, memory: int | None = None) -> None:
    """UserError when the disk or the memory (bytes free; None: this box's) has no room for the plan."""
    if plan.disk is None or plan.peak is None:
        return
    place = next(folder for folder in (plan.out, *plan.out.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if plan.disk > free:
        raise UserError(f"{printable(str(plan.out))} needs {_size(plan.disk)}, and {_size(free)} are free there: make room or name --out")
    has = psutil.virtual_memory().available if memory is None else memory
    if plan.peak > has:
        remedy = "--no-check merges without the check, which needs " + _size(plan.memory or 0) if plan.check else "merge on a larger box"
        raise UserError(f"merging needs {_size(plan.peak)} of memory, and {_size(has)} are free: {remedy}")


def _own_type(files: ModelFiles) -> str:
    """The base's own type when it has 16 bits, else bfloat16."""
    bytes_of: Counter[str] = Counter()
    for tensor in files.tensors.values():
        bytes_of[tensor.dtype] += tensor.end - tensor.begin
    most = bytes_of.most_common(1)
    return _HALF.get(most[0][0], "bfloat16") if most else "bfloat16"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / (1 << 20):.0f} MiB"
