"""The lease of a GPU: one run a card, the freest card first, and nothing left behind by the dead."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tuitune.errors import UserError
from tuitune.hub import lease as lease_module
from tuitune.hub.lease import Lease, candidates, take_lease

ROOT = Path(__file__).parents[3]
GIB = 1 << 30
BIG = {"index": 0, "uuid": "GPU-aaaa-1", "mem_used": 70 * GIB, "mem_total": 80 * GIB}
FREE = {"index": 1, "uuid": "GPU-bbbb-2", "mem_used": 1 * GIB, "mem_total": 24 * GIB}
BUSY = {"index": 2, "uuid": "GPU-cccc-3", "mem_used": 20 * GIB, "mem_total": 24 * GIB}
CARDS = [BIG, FREE, BUSY]


class Taker:
    """Takes leases for numbered runs and gives them back at the end."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []

    def __call__(self, wanted: object = "auto", cards: list[dict[str, Any]] = CARDS, **environment: str) -> Lease:
        self.leases.append(take_lease(wanted, cards, Path(f"/runs/run-{len(self.leases) + 1}"), environment))
        return self.leases[-1]


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taker]:
    monkeypatch.setattr(lease_module, "user_folder", lambda: tmp_path)
    taker = Taker()
    yield taker
    for one in taker.leases:
        one.release()


def test_the_card_with_the_most_free_memory_is_taken_first(take: Taker) -> None:
    assert [take().uuids for _ in CARDS] == [["GPU-bbbb-2"], ["GPU-aaaa-1"], ["GPU-cccc-3"]]


def test_the_trainer_sees_its_card_and_no_other(take: Taker) -> None:
    assert take().environment() == {"CUDA_VISIBLE_DEVICES": "GPU-bbbb-2"}


@pytest.mark.parametrize("wanted", ["auto", "1", 1, None])
def test_auto_one_and_nothing_said_mean_one_card(take: Taker, wanted: object) -> None:
    assert len(take(wanted).uuids) == 1


@pytest.mark.parametrize("wanted", ["all", "0,1", [0], -1, True])
def test_what_is_no_number_of_cards_is_refused_with_what_to_write(take: Taker, wanted: object) -> None:
    with pytest.raises(UserError, match=r"launch\.gpus: .*write how many GPUs, auto for one, or cpu"):
        take(wanted)


@pytest.mark.parametrize("wanted", [2, "2"])
def test_several_cards_are_taken_together_the_freest_first(take: Taker, wanted: object) -> None:
    assert take(wanted).uuids == ["GPU-bbbb-2", "GPU-aaaa-1"]
    assert take(1).uuids == ["GPU-cccc-3"]


def test_not_enough_free_cards_takes_none_of_them_and_says_who_has_the_others(take: Taker) -> None:
    take(2)
    with pytest.raises(UserError, match="GPU 1 by /runs/run-1; GPU 0 by /runs/run-1"):
        take(2)
    assert take(1).uuids == ["GPU-cccc-3"]


def test_more_cards_than_there_are_is_refused_with_how_many_there_are(take: Taker) -> None:
    with pytest.raises(UserError, match=r"launch\.gpus: 4: 3 GPUs are to be seen here; write 3"):
        take(4)
    with pytest.raises(UserError, match=r"launch\.gpus: 2: no GPUs are to be seen here; write cpu"):
        take(2, cards=[])


@pytest.mark.parametrize("wanted", ["cpu", "CPU", "none", 0, "0"])
def test_cpu_takes_no_card_and_hides_them_all(take: Taker, wanted: object) -> None:
    cpu = take(wanted)
    assert (cpu.uuids, cpu.locks) == ([], [])
    assert cpu.environment() == {"CUDA_VISIBLE_DEVICES": ""}


def test_auto_tells_which_cards_stay_idle_and_one_asked_for_does_not(take: Taker) -> None:
    cards = [BIG, FREE, {**FREE, "index": 4, "uuid": "GPU-d"}, {**FREE, "index": 5, "uuid": "GPU-e"}]
    assert "GPU 1 alone, GPUs 4, 5 stay free" in take(cards=cards).note
    assert "GPU 4 alone, GPU 5 stays free" in take(cards=cards).note
    assert take(cards=cards).note == "", "the others are in use"
    assert take("1", cards=[{**FREE, "uuid": "GPU-f"}, {**FREE, "uuid": "GPU-g"}]).note == ""


def test_the_order_of_the_cards_is_there_for_whoever_names_the_one_that_will_be_taken() -> None:
    assert [card["index"] for card in candidates(CARDS, {})] == [1, 0, 2]
    assert [card["index"] for card in candidates(CARDS, {"CUDA_VISIBLE_DEVICES": "0,2"})] == [0, 2]


def test_a_box_without_gpu_gives_none_and_changes_nothing(take: Taker) -> None:
    assert take(cards=[]).uuids == []
    assert take(cards=[]).environment() == {}


def test_when_every_card_trains_the_next_run_is_refused_naming_the_others(take: Taker) -> None:
    take(cards=[BIG, FREE])
    take(cards=[BIG, FREE])
    with pytest.raises(UserError) as refused:
        take(cards=[BIG, FREE])
    assert "GPU 1 by /runs/run-1" in str(refused.value)
    assert "GPU 0 by /runs/run-2" in str(refused.value)
    assert "launch.gpus: cpu" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_card_that_was_let_go_is_free_again_and_names_its_new_holder(take: Taker) -> None:
    take(cards=[FREE]).release()
    take(cards=[FREE])
    with pytest.raises(UserError, match=r"GPU 1 by /runs/run-2\.") as refused:
        take(cards=[FREE])
    assert "run-1" not in str(refused.value)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0", ["GPU-aaaa-1"]),
        ("2,0", ["GPU-aaaa-1"]),
        (" 2 ", ["GPU-cccc-3"]),
        ("GPU-cccc-3", ["GPU-cccc-3"]),
        ("GPU-cc", ["GPU-cccc-3"]),
        ("", []),
        ("-1", []),
        ("9", []),
        (",", []),
    ],
)
def test_cuda_visible_devices_narrows_the_choice(take: Taker, visible: str, expected: list[str]) -> None:
    assert take(CUDA_VISIBLE_DEVICES=visible).uuids == expected


def test_a_mig_slice_chosen_by_hand_is_left_as_it_is(take: Taker) -> None:
    for _ in range(2):
        mine = take(CUDA_VISIBLE_DEVICES="MIG-1234-5678")
        assert (mine.uuids, mine.locks, mine.environment()) == ([], [], {})


def test_a_card_whose_memory_is_unknown_comes_last_and_one_without_uuid_not_at_all(take: Taker) -> None:
    cards = [{"index": 0, "uuid": "GPU-x", "mem_used": None, "mem_total": None}, {"index": 1, "uuid": None}, FREE]
    assert take(cards=cards).uuids == ["GPU-bbbb-2"]
    assert take(cards=cards).uuids == ["GPU-x"]
    with pytest.raises(UserError):
        take(cards=cards)


HOLDER = """
import subprocess, sys
from pathlib import Path
from tuitune.hub import lease
lease.user_folder = lambda: Path(sys.argv[1])
mine = lease.take_lease("auto", [{"index": 1, "uuid": "GPU-bbbb-2"}], Path("/runs/other"), {})
trainer = None
if sys.argv[2] == "with trainer":
    trainer = subprocess.Popen(["sleep", "60"], pass_fds=mine.descriptors(), stdout=subprocess.DEVNULL)
print(trainer.pid if trainer else 0, flush=True)
input()
"""


def start_holder(folder: Path, story: str) -> tuple[subprocess.Popen[str], int]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), story], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    return holder, int(holder.stdout.readline())


def kill(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def test_the_lease_of_a_killed_hub_is_free_at_once(take: Taker, tmp_path: Path) -> None:
    holder, _ = start_holder(tmp_path, "alone")
    try:
        with pytest.raises(UserError, match="GPU 1 by /runs/other"):
            take(cards=[FREE])
    finally:
        kill(holder)
    assert take(cards=[FREE]).uuids == ["GPU-bbbb-2"]


def test_a_trainer_that_outlives_its_hub_keeps_the_card(take: Taker, tmp_path: Path) -> None:
    holder, trainer = start_holder(tmp_path, "with trainer")
    pidfd = os.pidfd_open(trainer)
    try:
        kill(holder)
        with pytest.raises(UserError, match="GPU 1 by /runs/other"):
            take(cards=[FREE])
    finally:
        os.kill(trainer, 9)
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)
    assert take(cards=[FREE]).uuids == ["GPU-bbbb-2"]
