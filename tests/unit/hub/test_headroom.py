"""A job beside a run on its card: what counts is the memory that is left at the run's peak, not what is free this moment."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_shapes import CONFIGS
from tuitune.bus.journal import Journal
from tuitune.errors import UserError
from tuitune.hub import headroom
from tuitune.hub import lease as lease_module
from tuitune.hub.cards import Cards
from tuitune.hub.headroom import holding
from tuitune.hub.lease import GpusTaken, take_lease
from tuitune.hub.record import RunRecord
from tuitune.memory.settings import Device
from tuitune.preflight.cards import Card
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, write_manifest

GIB = 1 << 30
CARD = {"index": 0, "uuid": "GPU-shared", "mem_total": 80 * GIB, "mem_used": 20 * GIB}


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "user_folder", lambda: tmp_path)


def start(folder: Path, recipe: str = "task: sft\n", kind: str = "train", **job: Any) -> RunDirectory:
    run = create_run(folder, f"{kind}-x", recipe)
    write_manifest(run, Manifest(f"{kind}-x", kind=kind, job=job))
    return run


def tell(run: RunDirectory, ev: str, **fields: Any) -> None:
    journal = Journal(run.journal / "trainer-1.jsonl")
    journal.emit(ev, **fields)
    journal.close()


def memory(reserved: int, peak: int) -> dict[str, int]:
    return {"alloc": reserved, "reserved": reserved, "peak_alloc": peak, "peak_reserved": peak}


def prove(run: RunDirectory, *reserved: int | None, context: int | None = GIB) -> None:
    rows = [{"name": "weights", "measured": GIB}, {"name": "CUDA context and kernels", "measured": context}]
    tell(run, "proof", phases=[{"phase": "x", "reserved": size} for size in reserved], components=rows)


def sample(run: RunDirectory, proc_mem: int | None) -> None:
    journal = Journal(run.journal / "hub.jsonl")
    journal.emit("gpu", devices=[{"uuid": "GPU-other", "proc_mem": 1}, {"uuid": "GPU-shared", "proc_mem": proc_mem}])
    journal.close()


@contextmanager
def held(run: RunDirectory, card: dict[str, Any] = CARD) -> Iterator[None]:
    lease = take_lease("auto", [card], run.path, {})
    try:
        yield
    finally:
        lease.release()


def test_a_job_shares_the_card_of_a_training_that_leaves_enough_at_its_peak(tmp_path: Path) -> None:
    run = start(tmp_path)
    prove(run, 10 * GIB, 49 * GIB)
    sample(run, 20 * GIB)
    with held(run):
        job = take_lease("auto", [CARD], tmp_path / "chat-1", {}, beside=30 * GIB)
    assert (job.uuids, job.locks) == (["GPU-shared"], []), "the training keeps its lock"
    assert job.environment() == {"CUDA_VISIBLE_DEVICES": "GPU-shared", "TUITUNE_GPU_ROOM": str(30 * GIB)}
    assert f"shares GPU 0 with {run.name}, which leaves 30.0 GiB at its peak (its own measurement)" in job.note


def test_memory_that_a_training_will_need_later_in_its_step_is_not_free(tmp_path: Path) -> None:
    run = start(tmp_path)
    prove(run, 10 * GIB, 69 * GIB)
    sample(run, 20 * GIB)  # between two steps: 60 GiB are free
    with held(run), pytest.raises(UserError) as refused:
        take_lease("auto", [CARD], tmp_path / "chat-1", {}, beside=30 * GIB)
    assert str(refused.value) == (
        f"it needs 30.0 GiB of a GPU's memory, and 10.0 GiB are left of GPU 0 beside {run.name}, which takes 70.0 GiB at its peak (its own "
        f"measurement; {run.path}): suspend it (tuitune send {run.name} pause mode=suspend), or wait for its end, or use the CPU (--cpu)"
    )


def test_a_step_that_took_more_than_the_proof_counts(tmp_path: Path) -> None:
    run = start(tmp_path)
    prove(run, 10 * GIB)
    tell(run, "metrics", step=1, mem=memory(30 * GIB, 40 * GIB))
    tell(run, "metrics", step=2, mem=memory(12 * GIB, 30 * GIB))
    sample(run, 13 * GIB)
    assert holding(run.path, "GPU-shared") == headroom.Holding(
        13 * GIB, 41 * GIB, "its own measurement", f"suspend it (tuitune send {run.name} pause mode=suspend), or wait for its end"
    )


def test_of_several_cards_the_fullest_counts_for_each(tmp_path: Path) -> None:
    run = start(tmp_path)
    prove(run, 10 * GIB)
    ranks = [memory(10 * GIB, 20 * GIB), memory(10 * GIB, 25 * GIB)]
    tell(run, "metrics", step=1, mem=ranks[0], mem_ranks=ranks)
    assert holding(run.path, "GPU-shared").peak == 26 * GIB


def test_where_the_driver_hides_whose_memory_it_is_torch_s_own_figures_count(tmp_path: Path) -> None:
    run = start(tmp_path)
    prove(run, 39 * GIB)
    sample(run, None)
    assert holding(run.path, "GPU-shared").now is None
    assert holding(run.path, "GPU-shared").to_come == 40 * GIB, "nobody sees what it holds: all of it is still to come"
    tell(run, "metrics", step=1, mem=memory(19 * GIB, 19 * GIB))
    assert holding(run.path, "GPU-shared").now == 20 * GIB


def test_what_a_dead_hub_saw_last_is_no_figure_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(tmp_path)
    sample(run, 20 * GIB)
    later = time.time() + 60
    monkeypatch.setattr(headroom.time, "time", lambda: later)
    assert holding(run.path, "GPU-shared").now is None


def test_without_a_proof_the_plan_of_its_recipe_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuitune.preflight.cards.this_box", lambda uuid: Card("NVIDIA H200", 140 * GIB, (9, 0)))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIGS["llama3.2-1b"]))
    recipe = f"""task: sft
model: {{name_or_path: {tmp_path}/model}}
peft: {{r: 8}}
dataset: {{train: [{{path: {tmp_path}/rows.jsonl}}]}}
training: {{max_length: 256, per_device_train_batch_size: 1}}
launch: {{proof: false}}
"""
    run = start(tmp_path, recipe)
    found = holding(run.path, "GPU-shared")
    assert found.known_from == "its memory plan"
    assert found.peak is not None
    assert 2 * GIB < found.peak < 6 * GIB
    tell(run, "metrics", step=1, mem=memory(3 * GIB, 7 * GIB))
    assert holding(run.path, "GPU-shared").peak == 7 * GIB + Device().context, "what it really took is more than the plan"


def test_a_training_that_has_told_nothing_yet_and_has_no_plan_shares_no_card(tmp_path: Path) -> None:
    run = start(tmp_path)
    sample(run, GIB)
    with held(run), pytest.raises(UserError, match=rf"nobody knows yet how much of GPU 0 {run.name} takes at its peak.*pause mode=suspend"):
        take_lease("auto", [CARD], tmp_path / "chat-1", {}, beside=GIB)


def test_of_a_job_what_it_asked_for_counts_and_it_is_stopped_not_suspended(tmp_path: Path) -> None:
    run = start(tmp_path, kind="chat", gpu_bytes=70 * GIB)
    sample(run, 20 * GIB)  # it loads its weights
    with held(run), pytest.raises(UserError, match=rf"10\.0 GiB are left .*what it asked for.*tuitune send {run.name} stop"):
        take_lease("auto", [CARD], tmp_path / "eval-1", {}, beside=30 * GIB)


def test_of_several_cards_the_one_with_the_most_left_at_the_peak_is_shared(tmp_path: Path) -> None:
    other = {**CARD, "index": 1, "uuid": "GPU-second", "mem_used": 40 * GIB}
    grows, stays = start(tmp_path / "a"), start(tmp_path / "b")
    prove(grows, 75 * GIB)
    prove(stays, 39 * GIB)
    tell(stays, "metrics", step=1, mem=memory(39 * GIB, 39 * GIB))
    with held(grows), held(stays, other):
        job = take_lease("auto", [CARD, other], tmp_path / "chat-1", {}, beside=10 * GIB)
    assert job.uuids == ["GPU-second"]


def test_a_job_that_does_not_say_what_it_needs_takes_a_free_card_only(tmp_path: Path) -> None:
    run = start(tmp_path)
    with held(run), pytest.raises(GpusTaken):
        take_lease("auto", [CARD], tmp_path / "eval-1", {})
    free = take_lease("auto", [CARD], tmp_path / "chat-3", {}, beside=8 * GIB)
    assert len(free.locks) == 1, "a free card is taken, not shared"
    free.release()


def test_a_job_is_told_its_own_remedies_when_others_have_the_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, job = start(tmp_path / "a"), start(tmp_path / "b", kind="export")
    monkeypatch.setattr("tuitune.hub.cards.GpuSampler.sample", lambda self: {"devices": [CARD]})
    with held(run), pytest.raises(UserError, match=r"Suspend one .*pause mode=suspend.*--cpu"):
        Cards(RunRecord(job, Manifest("export-x", kind="export"))).wait(lambda: None, lambda: None)
