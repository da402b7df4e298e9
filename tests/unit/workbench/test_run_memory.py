"""The three memory numbers of a run and the names of the gaps between them."""

from dataclasses import replace

from tests.support import journals
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.gpu_reading import GpuReading
from tuitune.workbench.run_reduce import reduce
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.memory import gaps, memory_lines, run_gpus
from tuitune.workbench.views.run.several import together_lines

GIB = journals.GIB


def run_on(gpus: int) -> RunState:
    return state_of(*from_files(hub=journals.hub_records(gpus=gpus, final=None), trainer_1=journals.trainer_records(gpus=gpus)))


def text_of(state: RunState, width: int = 60) -> str:
    return "\n".join("".join(text for text, _ in line) for line in memory_lines(state, width))


def test_the_gaps_add_up_to_what_the_device_says() -> None:
    parts = gaps(used=21.0, process=10.0, reserved=9.0, allocated=6.0)
    assert (parts.allocated, parts.cached, parts.context, parts.others) == (6.0, 3.0, 1.0, 11.0)
    assert not parts.hidden


def test_without_process_figures_context_and_others_are_one_gap() -> None:
    parts = gaps(used=21.0, process=None, reserved=9.0, allocated=6.0)
    assert (parts.context, parts.others, parts.hidden) == (None, 12.0, True)


def test_samples_of_different_moments_make_no_negative_gap() -> None:
    parts = gaps(used=8.0, process=8.5, reserved=9.0, allocated=9.5)
    assert min(parts.cached or 0, parts.context or 0, parts.others or 0) == 0


def test_a_gpu_run_names_every_gap_and_the_peak() -> None:
    text = text_of(run_on(1))
    for piece in (
        "GPU 0 21.0/140 GiB used",
        "6.1 GiB allocated",
        "3.4 GiB cached",
        "context+libraries",
        "10.8 GiB others",
        "ada python",
        "peak 8.8 GiB",
    ):
        assert piece in text


def test_a_cpu_run_shows_the_box_instead_and_says_so() -> None:
    text = text_of(run_on(0))
    assert "CPU run" in text
    assert "1.9 GiB this run (RSS), peak 1.9 GiB" in text
    assert "6.0/23.0 GiB RAM used" in text


def test_torch_devices_are_matched_to_cards_by_uuid_not_by_number() -> None:
    state = run_on(2)
    state.hello["trainer"]["devices"] = [{"uuid": "00000001"}, {"uuid": "00000000"}]
    assert [entry.gpu.now.index for entry in run_gpus(state)] == [1, 0]
    assert all(entry.torch is state.torch[position] for position, entry in enumerate(run_gpus(state)))


def test_only_the_cards_the_run_is_on_are_its_own() -> None:
    record = journals.gpu_record(journals.START, 2)
    record["devices"][0]["proc_mem"] = None
    state = state_of({"src": "hub", **record})
    assert [entry.gpu.now.index for entry in run_gpus(state)] == [1]


def cards(*clocks: float | None, reasons: tuple[str, ...] = ()) -> list[GpuReading]:
    """A card for each clock; `reasons` limit the last one."""
    made = [
        GpuReading(index, f"GPU-{index}", "H200", 90.0, 20 * GIB, 140 * GIB, power=500.0, sm_clock=clock)
        for index, clock in enumerate(clocks)
    ]
    return [*made[:-1], replace(made[-1], reasons=reasons)]


def words_of(found: list[GpuReading]) -> list[str]:
    return ["".join(text for text, _ in line) for line in together_lines(found)]


def test_several_gpus_have_their_sums_and_the_slowest_is_named() -> None:
    sums, slowest, *rows = words_of(cards(1980, 1980, 1410, reasons=("thermal",)))
    assert sums == "3 GPUs 60.0/420 GiB used, util 90%, 1,500 W"
    assert slowest == "slowest: GPU 2 at 1,410 MHz, the others 1,980 (limited by: thermal)"
    assert [row.split()[:3] for row in rows] == [[str(index), "20.0/140", "GiB"] for index in range(3)]


def test_what_is_not_known_is_left_out_and_like_clocks_name_nobody() -> None:
    assert words_of(cards(1980, 1965))[1] == "all at the same clock"
    assert words_of(cards(None, None))[:1] == ["2 GPUs 40.0/280 GiB used, util 90%, 1,000 W"]
    assert words_of(cards(1980)) == []


def test_torchs_figures_of_every_rank_stand_at_its_own_card() -> None:
    state = run_on(2)
    each = [{"alloc": GIB, "reserved": 2 * GIB, "peak_alloc": 3 * GIB, "peak_reserved": 4 * GIB}, {"alloc": 5 * GIB, "reserved": 6 * GIB}]
    reduce(state, {"src": "trainer-1", "ev": "metrics", "t": journals.START + 99, "step": 61, "mem": each[0], "mem_ranks": each})
    assert [entry.torch and entry.torch.allocated.last for entry in run_gpus(state)] == [GIB, 5 * GIB]
