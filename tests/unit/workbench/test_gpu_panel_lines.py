"""What the GPU panel says, line by line, for cards with and without a run, with others on them, and for boxes without a GPU."""

from tests.support import journals
from tuitune.workbench.gpu_feed import GpuNow, TorchFigures
from tuitune.workbench.gpu_reading import GpuReading, GpuSample, HostReading, OtherProcess, read_host, read_sample
from tuitune.workbench.parts.gpu_panel import panel_lines
from tuitune.workbench.parts.role_lines import bar

GIB = journals.GIB


def shown(now: GpuNow, width: int = 28) -> str:
    lines = ["".join(text for text, _ in line) for line in panel_lines(now, width)]
    assert all(len(line) <= width for line in lines), lines
    return "\n".join(lines)


def sample(gpus: int = 1, *, busy: bool = True) -> GpuSample:
    return read_sample(journals.gpu_record(0.0, gpus, busy=busy))


def test_before_a_run_the_card_and_its_other_users_are_shown() -> None:
    text = shown(GpuNow(sample(busy=False)))
    for piece in ("GPU 0 H200", "21.0/140 GiB", "ada python", "10.1 GiB", "util 0%", "61°C", "540/700 W", "1980 MHz"):
        assert piece in text
    assert "this run" not in text


def test_a_run_of_ours_shows_device_reserved_and_allocated() -> None:
    now = GpuNow(sample(), run="gsm8k", torch={"GPU-00000000": TorchFigures(reserved=9.5 * GIB, allocated=6.1 * GIB)})
    text = shown(now)
    for label, value in (("this run", "10.2 GiB"), ("reserved", "9.5 GiB"), ("allocated", "6.1 GiB"), ("others", "10.8 GiB")):
        assert any(label in line and line.endswith(value) for line in text.splitlines()), (label, text)
    assert "limited by: sw power cap" in text


def test_process_memory_that_the_driver_hides_is_said_to_be_hidden() -> None:
    device = GpuReading(0, "GPU-1", "NVIDIA L4", used=3.0 * GIB, total=24.0 * GIB)
    assert "hidden here" in shown(GpuNow(GpuSample((device,)), run="gsm8k"))


def test_values_the_driver_does_not_give_are_a_dash_and_nothing_breaks() -> None:
    text = shown(GpuNow(GpuSample((GpuReading(0, "", "GPU"),)), HostReading()))
    assert "–/– GiB" in text
    assert "util –" in text


def test_without_a_gpu_the_panel_says_that_training_runs_on_the_cpu() -> None:
    text = shown(GpuNow(GpuSample(error="no NVIDIA GPU: training runs on the CPU"), read_host(journals.host_record(0.0))))
    assert "No NVIDIA GPU: training" in text
    assert "6.0/23.0 GiB" in text


def test_the_status_bar_names_the_fullest_card() -> None:
    full = GpuReading(1, "b", "NVIDIA H200", used=100.0 * GIB, total=140.0 * GIB)
    empty = GpuReading(0, "a", "NVIDIA H200", used=1.0 * GIB, total=140.0 * GIB)
    assert GpuNow(GpuSample((empty, full))).summary == "2×GPU 100/140 GiB"
    assert GpuNow(sample()).summary == "GPU 21.0/140 GiB"
    assert GpuNow(GpuSample(error="none")).summary == "CPU"


def test_many_other_processes_are_counted_not_listed() -> None:
    others = tuple(OtherProcess(pid, "ada", "python", GIB) for pid in range(9))
    assert "and 5 more" in shown(GpuNow(GpuSample((GpuReading(0, "a", "A100", others=others),))))


def test_a_bar_adds_its_parts_up_and_never_hides_a_small_one() -> None:
    assert bar(10, [(50, "one", "█"), (25, "two", "▚")], 100) == (("█████", "one"), ("▚▚▚", "two"), ("··", "rest"))
    assert bar(10, [(0.1, "one", "█")], 100) == (("█", "one"), ("·" * 9, "rest"))
    assert bar(10, [(500, "one", "█"), (1, "two", "▚")], 100) == (("█" * 10, "one"),)
    assert bar(4, [(None, "one", "█")], None) == (("────", "rest"),)
