"""The three memory numbers of a run and the names of the gaps between them."""

from tests.support import journals
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.memory import gaps, memory_lines, run_gpus

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
