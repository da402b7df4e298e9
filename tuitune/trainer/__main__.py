"""`python -m tuitune.trainer RUN`: train the recipe of a run directory. Started by the hub; works alone as well.

Exit code 0: done or stopped as asked. 1: failed; a UserError is one sentence (also in the `end` event), anything else a traceback.
"""

import atexit
import faulthandler
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.bus.journal import Journal
from tuitune.bus.trainer_link import TrainerLink
from tuitune.dataset.looked_at import compare
from tuitune.errors import UserError
from tuitune.memory.allocator import choose
from tuitune.network import hub_names, settle_network
from tuitune.planning import splits_of
from tuitune.preflight.cards import this_box
from tuitune.recipe.ledger import write_ledger
from tuitune.recipe.recipe import Recipe, load_recipe
from tuitune.recipe.strategy import strategy_of
from tuitune.recipe.update_rows import MEASURE
from tuitune.runs.checkpoints import step_of
from tuitune.runs.directory import RunDirectory
from tuitune.runs.hello import this_process
from tuitune.runs.manifest import Manifest, read_manifest
from tuitune.secrets import mask_streams
from tuitune.trainer.box import FillIn
from tuitune.trainer.checkpoints import DISK, disk_refusal
from tuitune.trainer.ranks import Rank, Silent, end_with_parent, keep_own_log, orders_for, this_rank, write_stacks_on_demand
from tuitune.trainer.stop import StopNow, StopRequest
from tuitune.update_split import as_before, is_planned, rows_of_each, with_values
from tuitune.versions import installed

if TYPE_CHECKING:
    from tuitune.trainer.build import Built
    from tuitune.trainer.telemetry import Telemetry


def main(path: Path) -> int:
    """Train the run at `path` to its end."""
    mask_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    allocator, rank = choose(os.environ), this_rank()
    end_with_parent(rank)
    if rank.world == 1:
        _see_one_gpu()
    stop = StopRequest()
    stop.listen_to_signals()
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)  # the hub asks for the stacks when nothing moves
    run = RunDirectory(path.resolve())
    try:
        manifest = read_manifest(run)
        keep_own_log(run.log, manifest.attempt, rank)
        write_stacks_on_demand(run.log, manifest.attempt, rank)
        journal: Journal | Silent = Journal(run.journal / f"trainer-{manifest.attempt}.jsonl") if rank.first else Silent()
    except (UserError, OSError) as error:  # without a journal the sentence on stderr is all there can be
        sys.stderr.write(f"{error}\n")
        return 1
    journal.emit("state", s="loading", why="reading the recipe and the libraries")
    try:
        recipe = load_recipe(run.recipe, base=Path(manifest.recipe_path).parent if manifest.recipe_path else run.path)
        for section, values in manifest.overrides.items():
            getattr(recipe, section).update(values)
        recipe, split = _settled(recipe, run)
        unreachable = settle_network(hub_names(recipe))
        if unreachable:
            journal.emit("warning", text=unreachable)
        # the torch stack takes seconds to load: after the first record, so that a viewer sees what it waits for
        from tuitune.trainer.telemetry import Telemetry

        link: TrainerLink | Silent = TrainerLink(run.path) if rank.first else Silent()
        link.start()
        telemetry = Telemetry(journal, link)
        telemetry.current = "loading"
        telemetry.start_heartbeat()
        built = _build(recipe, split, run, telemetry, allocator, manifest)
        _train(built, run, telemetry, stop, manifest, rank)
        state = "suspended" if stop.suspended else "stopped" if stop.asked else "done"
        saved = _save(built, run, telemetry) if stop.save and telemetry.step else None  # before the first step there is nothing to keep
        telemetry.state(state, step=telemetry.step, why=stop.why or None)
        journal.emit("end", step=telemetry.step, reason=state, result=saved)
        telemetry.close()
        return 0
    except StopNow:
        journal.emit("state", s="stopped", why=f"{stop.why} before the first step")
        journal.emit("end", step=0, reason="stopped", result=None)
        return 0
    except UserError as error:
        return _failed(journal, str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK:
            return _failed(journal, f"{error.filename or run.path}: cannot be written ({error.strerror}); make room and start again")
        traceback.print_exc()
        return 1


def _failed(journal: Journal | Silent, sentence: str) -> int:
    journal.emit("state", s="failed", why=sentence)
    journal.emit("end", reason="failed", error=sentence)
    sys.stderr.write(f"{sentence}\n")
    return 1


def _see_one_gpu() -> None:
    """One process trains on one GPU; with more in sight transformers would wrap the model in DataParallel, which TRL refuses.
    The hub has chosen one by its lease; alone it is the first."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.partition(",")[0]


def _devices() -> list[dict[str, str]]:
    """The GPUs this process computes on, in torch's order: UUIDs match torch's numbers to the driver's."""
    import torch

    if not torch.cuda.is_initialized():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"uuid": f"GPU-{device.uuid}", "name": device.name} for device in found]


@dataclass(frozen=True)
class Split:
    """What tuitune has written into `training:`, by key with its reason, and the `others` that could have been, the same first; () where
    none is to be measured. `planned`: a memory plan says that they fit."""

    chosen: dict[str, FillIn] = field(default_factory=dict)
    others: tuple[dict[str, FillIn], ...] = ()
    planned: bool = False


def _settled(recipe: Recipe, run: RunDirectory) -> tuple[Recipe, Split]:
    """The recipe with the micro-batches that tuitune chooses for this card; those of the attempt before, where there was one."""
    if rows_of_each(recipe) is None:
        return recipe, Split()
    before = as_before(run.effective)
    if before:
        return with_values(recipe, before), Split(before)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    card = this_box(visible if visible.startswith("GPU-") else None)
    found = splits_of(recipe, card)
    others = tuple(found) if recipe.launch.get(MEASURE) else ()
    return with_values(recipe, found[0]), Split(found[0], others, is_planned(recipe, card))


def _build(recipe: Recipe, split: Split, run: RunDirectory, telemetry: "Telemetry", allocator: str, manifest: Manifest) -> "Built":
    from tuitune.trainer.build import build
    from tuitune.trainer.control import caps
    from tuitune.trainer.effective import ledger
    from tuitune.trainer.measured_split import measure_split
    from tuitune.trainer.prepared import describe, warnings
    from tuitune.trainer.resuming import verify
    from tuitune.trainer.work import describe_work

    telemetry.journal.emit("state", s="loading", why=f"loading {recipe.model['name_or_path']} and the data")
    started = time.monotonic()
    built = build(recipe, run, split.chosen)
    write_ledger(run.effective, ledger(built))
    loading = time.monotonic() - started
    if split.others:  # once: should it end the process, the next attempt has the plan's choice from the ledger
        measure_split(built, split.others, telemetry, planned=split.planned)
        write_ledger(run.effective, ledger(built))
    telemetry.journal.emit(
        "hello",
        **this_process(),
        world=built.trainer.args.world_size,
        strategy=strategy_of(recipe.launch),
        device=built.box.name,
        allocator=allocator,
        devices=_devices(),
        work=describe_work(built),
        caps=caps(built.trainer),
        loading_seconds=loading,
    )
    data = describe(built)
    if manifest.resume_from is not None and this_rank().first:  # the others wait for it with the first exchange
        verify(run.checkpoints / manifest.resume_from, manifest, data, read=os.environ.get("TUITUNE_READ") == manifest.resume_from)
    seen, differs = compare(recipe, data["fingerprint"], data["sha256"])
    telemetry.journal.emit("data", **data, inspected=seen)
    for warning in built.warnings + warnings(data) + ([differs] if differs else []):
        telemetry.journal.emit("warning", text=warning)
    return built


def _train(built: "Built", run: RunDirectory, telemetry: "Telemetry", stop: StopRequest, manifest: Manifest, rank: Rank) -> None:
    from tuitune.trainer.kept import Shape
    from tuitune.trainer.prepared import rows_as_arrays
    from tuitune.trainer.proof import ProofCallback
    from tuitune.trainer.resuming import changed_rewards, changed_since
    from tuitune.trainer.telemetry import TelemetryCallback
    from tuitune.trainer.watch import Watch

    trainer = built.trainer
    rows_as_arrays(trainer)
    trainer.add_callback(ProofCallback(built, telemetry, stop, run.name))
    trainer.steer(telemetry, stop, orders_for(telemetry.link, rank))
    trainer.add_callback(TelemetryCallback(telemetry, lambda: trainer.kept.progress.tokens))
    trainer.watch = Watch(built, run, telemetry)
    trainer.add_callback(trainer.watch)
    if manifest.resume_from is None:
        trainer.train()
        return
    checkpoint = run.checkpoints / manifest.resume_from
    overridden = manifest.overrides.get("training", {}).keys() & set(Shape.__dataclass_fields__)
    trainer.take_up(checkpoint, Shape.of(trainer.args) if overridden else None)
    rewards = changed_rewards(manifest, built.recipe)
    if rewards is not None:
        telemetry.journal.emit("warning", text=f"{rewards}: from here on it learns by the new ones, and rewards before and after differ")
    changed = manifest.passed_over + ([rewards] if rewards else []) + changed_since(run, manifest.attempt, installed())
    telemetry.journal.emit("seam", attempt=manifest.attempt, step=step_of(checkpoint), checkpoint=str(checkpoint), changed=changed)
    trainer.train(resume_from_checkpoint=str(checkpoint))


def _save(built: "Built", run: RunDirectory, telemetry: "Telemetry") -> dict[str, Any]:
    """The result into run/adapter: the LoRA adapter, or the whole model of a full fine-tuning; tokenizer and template with it.

    Written beside it and renamed, so that whoever finds run/adapter finds all of it.
    """
    from tuitune.trainer.plain_adapter import save_plain

    partial = run.adapter.with_name(".adapter")
    with telemetry.phase("saving"):
        try:
            if built.trainer.args.should_save:
                shutil.rmtree(partial, ignore_errors=True)
            built.trainer.save_model(str(partial))  # on every rank: the shards of a model are gathered for it
            if not built.trainer.args.should_save:
                return {}
            built.trainer.processing_class.save_pretrained(str(partial))
            shutil.rmtree(partial / "ref", ignore_errors=True)  # TRL's frozen copy of the adapter that preferences were measured against
            save_plain(built.trainer.model, run.path, partial)
            (partial / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody should load
            shutil.rmtree(run.adapter, ignore_errors=True)
            partial.rename(run.adapter)
        except Exception as error:
            reason = disk_refusal(error)
            if reason is None:
                raise
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(
                f"{run.adapter}: the result cannot be written ({reason}); make room: the last whole checkpoint in {run.checkpoints} has "
                "the training up to there"
            ) from error
    adapted = hasattr(built.trainer.model, "peft_config")
    size = sum(path.stat().st_size for path in run.adapter.rglob("*") if path.is_file())
    return {"path": str(run.adapter), "kind": "adapter" if adapted else "model", "bytes": size, "step": _step_of_weights(built, telemetry)}


def _step_of_weights(built: "Built", telemetry: "Telemetry") -> int:
    """After how many steps the weights were as they are saved: with load_best_model_at_end the trainer has gone back."""
    args, best = built.trainer.args, built.trainer.state.best_model_checkpoint
    back = step_of(Path(best)) if args.load_best_model_at_end and best is not None else None
    return telemetry.step if back is None else back


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tuitune.trainer RUN_DIRECTORY (tuitune train RECIPE makes one)")
    code = main(Path(sys.argv[1]))
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # All is saved and told. What is left is the native libraries' own leave-taking, where on a busy box a thread of theirs can abort the
    # process ("terminate called without an active exception") and make a run that ended well look like one that broke down.
    os._exit(code)
