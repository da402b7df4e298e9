"""The merge job: an adapter becomes part of its base's weights, by peft's own merge, in 16 bits and never into a quantised base."""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tuitune.after.loading import load
from tuitune.after.merge_plan import RECORD, MergePlan, plan_merge, require_room
from tuitune.after.source import Source, find_source
from tuitune.errors import UserError
from tuitune.files import file_hash, write_atomically
from tuitune.text import printable
from tuitune.trainer.checkpoints import disk_refusal
from tuitune.trainer.device import look
from tuitune.versions import installed

if TYPE_CHECKING:
    from tuitune.after.job import Job


def run(job: "Job") -> dict[str, Any]:
    """The job: merge, and unless it is not wanted compare the result with the adapter."""
    args = job.args
    source = source_of(job)
    device = "cuda" if look(args.get("gpus") == "cpu").cuda else "cpu"
    plan = plan_merge(source, Path(args["out"]) if args.get("out") else None, args.get("dtype"), check=args["check"])
    require_room(plan, _free(device))
    job.state("loading", f"loading {printable(source.base)}")
    merged = merge(source, plan, args["max_shard_size"], device)
    job.state("running")
    if not args["check"]:
        return merged
    if source.judges:
        from tuitune.after.same_scores import check_scores as check
    else:
        from tuitune.after.equivalence import check_merge as check

    found = check(source, plan, device, job.progress, job.stopped)
    write_record(plan.out, {**json.loads((plan.out / RECORD).read_bytes()), "check": found})
    if not found["passed"]:
        job.warn(found["words"])
    return {**merged, "check": found}


def source_of(job: "Job") -> Source:
    """The source that a job names, over the base that it names besides."""
    source = find_source(job.args["source"], job.workspace)
    return source.over(job.args["base"]) if job.args.get("base") else source


def merge(source: Source, plan: MergePlan, max_shard_size: str = "5GB", device: str = "cpu") -> dict[str, Any]:
    """Merge into `plan.out`, which is replaced whole when everything is written. Returns what RECORD says.

    peft computes the product of the two LoRA matrices in their float32 and adds it to the base's weight in the plan's type, so that product
    and sum are rounded to it. UserError when the adapter is broken (NaN), of a kind that cannot be merged, or the disk refuses.
    """
    model, tokenizer = load(source, adapter=True, four_bit=False, dtype=plan.dtype, device=device)
    if not hasattr(model, "merge_and_unload"):
        raise UserError(f"{source.words} is an adapter of a kind that has no weights to merge (prompt tuning and its kin)")
    tied = _tied(model)
    try:
        merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(f"{source.words} cannot be merged: {printable(str(error), limit=240)}") from error
    merged = merged.to(getattr(torch, plan.dtype))
    settle_generation(merged, tokenizer)
    record = {
        "schema": 1,
        "base": source.base,
        "revision": source.revision,
        "adapter": str(source.adapter),
        "adapter_sha256": file_hash(source.adapter / "adapter_model.safetensors") if source.adapter else None,
        "dtype": plan.dtype,
        "parameters": sum(weight.numel() for weight in merged.parameters()),
        "untied": tied and not _tied(merged),  # two copies of one embedding were trained apart; peft notes it in the configuration
        "versions": installed(),
    }
    _write(merged, tokenizer, plan.out, max_shard_size, record)
    size = sum(path.stat().st_size for path in plan.out.rglob("*") if path.is_file())
    return {"path": str(plan.out), "kind": "model", "bytes": size, **{key: record[key] for key in ("dtype", "parameters", "untied")}}


def settle_generation(model: Any, tokenizer: Any) -> None:
    """Let the generation settings stop at the token that the training has taught as the end, beside the base's own.

    transformers saves no settings that contradict themselves; temperatures without sampling mean sampling.
    """
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return
    written = settings.eos_token_id
    stops = list(written) if isinstance(written, list | tuple) else [] if written is None else [written]
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in stops:
        stops.append(tokenizer.eos_token_id)
        settings.eos_token_id = stops if len(stops) > 1 else stops[0]
    if settings.pad_token_id is None and tokenizer.pad_token_id is not None:
        settings.pad_token_id = tokenizer.pad_token_id
    try:
        settings.validate(strict=True)
    except ValueError:
        settings.do_sample = True


def _tied(model: Any) -> bool:
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Replace RECORD in `folder`, whole."""
    write_atomically(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _write(model: Any, tokenizer: Any, out: Path, max_shard_size: str, record: dict[str, Any]) -> None:
    """Beside `out`, then renamed: whoever finds `out` finds all of it."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        model.save_pretrained(partial, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(partial)
        write_record(partial, record)
        _sync(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        reason = disk_refusal(error) or (error.strerror if isinstance(error, OSError) else None)
        if reason is None:
            raise
        raise UserError(
            f"{printable(str(out))} cannot be written ({reason}): make room there, or name another folder with --out"
        ) from error


def _sync(folder: Path) -> None:
    """Have the files on the disk before the rename says that they are there."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free(device: str) -> int | None:
    """Bytes free on the GPU; None for this box's memory."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else None
