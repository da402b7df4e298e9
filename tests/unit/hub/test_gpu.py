"""The GPU sampler against a stand-in NVML: every field, and what one missing answer costs (that one field)."""

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.nvml_stub import COMPILER, build_nvml, nvml_environment
from tuitune.hub.gpu import NO_GPU

ROOT = Path(__file__).parents[3]
GIB = 1 << 30
GONE = 2**22 + 7  # above the largest pid there can be
BOX = "init 0\ndriver 570.86.15\ncount 2\n"
FIRST = f"""\
0.name NVIDIA H100 80GB HBM3
0.uuid GPU-aaaa-1
0.util 97
0.used {40 * GIB}
0.total {80 * GIB}
0.power 415500
0.power_limit 700000
0.temp 61
0.sm_clock 1755
0.mem_clock 2619
0.reasons 36
0.ecc 0
0.processes 0
"""
SECOND = f"""\
1.name NVIDIA GeForce RTX 4090
1.uuid GPU-bbbb-2
1.util 0
1.used 0
1.total {24 * GIB}
1.power 21000
1.power_limit 450000
1.temp 33
1.sm_clock 210
1.mem_clock 405
1.reasons 1
1.processes 0
"""
CODE = """
import json, os, sys
from pathlib import Path
from tuitune.hub.gpu import GpuSampler
sampler = GpuSampler(tree_of=int(sys.argv[1]) if sys.argv[1] != "none" else None)
first = sampler.sample()
if len(sys.argv) > 2:
    Path(os.environ["NVML_STUB"]).write_text(sys.argv[2])
    first = sampler.sample()
print(json.dumps(first), flush=True)
sampler.close()
sampler.close()
"""
Sample = Callable[..., dict[str, Any]]
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler to build the stand-in with")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def sample(library: Path, tmp_path: Path) -> Sample:
    """What a sampler in a process of its own says of the cards described."""

    def one(values: str, tree_of: int | None = None, then: str | None = None) -> dict[str, Any]:
        (tmp_path / "values").write_text(values)
        return run_sampler(nvml_environment(library, tmp_path / "values"), tree_of, then)

    return one


def run_sampler(environment: dict[str, str], tree_of: int | None = None, then: str | None = None) -> dict[str, Any]:
    """The first sample, or the second one of the same sampler when the cards have changed to `then`."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tree_of or "none"), *([then] if then else [])],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@needs_compiler
def test_every_field_of_two_cards_is_read_in_its_unit(sample: Sample) -> None:
    found = sample(BOX + FIRST + SECOND)
    assert (found["driver"], found["error"]) == ("570.86.15", None)
    assert found["devices"][0] == {
        "index": 0,
        "uuid": "GPU-aaaa-1",
        "name": "NVIDIA H100 80GB HBM3",
        "util": 97,
        "mem_used": 40 * GIB,
        "mem_total": 80 * GIB,
        "proc_mem": None,
        "others": [],
        "power": 415.5,
        "power_limit": 700.0,
        "temp": 61,
        "sm_clock": 1755,
        "mem_clock": 2619,
        "reasons": ["power cap", "thermal"],
        "ecc": 0,
    }
    second = found["devices"][1]
    assert (second["index"], second["uuid"], second["mem_used"], second["util"]) == (1, "GPU-bbbb-2", 0, 0)
    assert second["reasons"] == ["idle"]
    assert second["ecc"] is None, "this card has no ECC: not supported"


@needs_compiler
def test_the_next_sample_is_a_new_look(sample: Sample) -> None:
    later = sample(BOX + FIRST + SECOND, then=BOX + FIRST.replace("0.util 97", "0.util 12") + SECOND)
    assert later["devices"][0]["util"] == 12


@needs_compiler
def test_our_tree_is_told_apart_from_the_others_on_the_card(sample: Sample) -> None:
    """Ours, and a child of ours; somebody's who is here; one of another pid namespace, whose memory NVML does not say."""
    child = subprocess.Popen(["sleep", "60"])
    try:
        lines = f"0.process {os.getpid()} 1000\n0.process {child.pid} 500\n0.process {os.getppid()} 77\n0.process {GONE} -1\n"
        first, second = sample(BOX + FIRST + SECOND + lines, tree_of=os.getpid())["devices"]
    finally:
        child.kill()
        child.wait()
    assert first["proc_mem"] == 1500
    here, gone = first["others"]
    assert (here["pid"], here["mem"], here["user"]) == (os.getppid(), 77, getpass.getuser())
    assert here["name"]
    assert (gone["pid"], gone["mem"], gone["user"], gone["name"]) == (GONE, None, None, "hidden")
    assert (second["proc_mem"], second["others"]) == (0, []), "the pids are this box's, so none of ours there means none"


@needs_compiler
def test_in_a_container_that_hides_our_pid_our_memory_is_unknown_not_zero(sample: Sample) -> None:
    first = sample(BOX + FIRST + f"0.process {GONE} 1000\n", tree_of=os.getpid())["devices"][0]
    assert first["proc_mem"] is None
    assert [other["pid"] for other in first["others"]] == [GONE]


@needs_compiler
def test_our_memory_is_unknown_when_nvml_does_not_say_it(sample: Sample) -> None:
    assert sample(BOX + FIRST + f"0.process {os.getpid()} -1\n", tree_of=os.getpid())["devices"][0]["proc_mem"] is None


@needs_compiler
def test_the_pid_whose_tree_is_ours_may_have_ended(sample: Sample) -> None:
    first = sample(BOX + FIRST + f"0.process {os.getpid()} 5\n", tree_of=GONE)["devices"][0]
    assert [other["pid"] for other in first["others"]] == [os.getpid()]


FIELDS = {
    "name": ["name"],
    "uuid": ["uuid"],
    "util": ["util"],
    "used": ["mem_used", "mem_total"],
    "power": ["power"],
    "power_limit": ["power_limit"],
    "temp": ["temp"],
    "sm_clock": ["sm_clock"],
    "mem_clock": ["mem_clock"],
    "ecc": ["ecc"],
}


@needs_compiler
@pytest.mark.parametrize(
    ("code", "what"), [(3, "not supported"), (4, "no permission"), (13, "driver too old"), (15, "the card is lost"), (999, "unknown")]
)
def test_a_call_that_fails_blanks_its_own_value_and_no_other(sample: Sample, code: int, what: str) -> None:
    """One card for every call that can fail: each lacks that call's answer and has all others."""
    whole = sample(BOX + FIRST + SECOND)["devices"][0]
    names = list(FIELDS)
    cards = ""
    for number, broken in enumerate(names):
        lines = [line.replace("0.", f"{number}.", 1) for line in FIRST.splitlines()]
        cards += "\n".join(f"{number}.{broken} !{code}" if line.startswith(f"{number}.{broken} ") else line for line in lines) + "\n"
    found = sample(BOX.replace("count 2", f"count {len(names)}") + cards)
    assert found["error"] is None
    for number, broken in enumerate(names):
        expected = {**whole, "index": number, **dict.fromkeys(FIELDS[broken])}
        assert found["devices"][number] == expected, f"{broken}: {what}"


@needs_compiler
@pytest.mark.parametrize("code", [3, 4, 13, 15])
def test_a_card_that_does_not_list_its_processes_has_unknown_ones(sample: Sample, code: int) -> None:
    """13 is what a driver older than this call gives: pynvml then raises an error of another family."""
    first = sample(BOX + FIRST.replace("0.processes 0", f"0.processes !{code}"), tree_of=os.getpid())["devices"][0]
    assert (first["proc_mem"], first["others"], first["util"]) == (None, [], 97)


@needs_compiler
def test_a_card_that_answers_nothing_at_all_is_still_listed(sample: Sample) -> None:
    first, second = sample(BOX + FIRST)["devices"]
    assert first["name"] == "NVIDIA H100 80GB HBM3"
    assert {key: value for key, value in second.items() if value not in (None, [])} == {"index": 1}


@needs_compiler
def test_an_older_drivers_names_for_memory_and_clock_reasons_are_asked_as_well(sample: Sample) -> None:
    old = FIRST.replace("0.used", "0.old_used").replace("0.reasons", "0.old_reasons")
    first = sample(BOX.replace("count 2", "count 1") + old)["devices"][0]
    assert (first["mem_used"], first["mem_total"]) == (40 * GIB, 80 * GIB)
    assert first["reasons"] == ["power cap", "thermal"]


@needs_compiler
@pytest.mark.parametrize(
    ("code", "words"),
    [(9, "driver is not loaded"), (18, "reboot this box"), (4, "/dev/nvidia"), (999, "nvidia-smi")],
)
def test_an_nvml_that_does_not_start_is_one_sentence_with_the_remedy(sample: Sample, code: int, words: str) -> None:
    found = sample(f"init !{code}\n")
    assert found["devices"] == []
    assert words in found["error"]
    assert "\n" not in found["error"]


@needs_compiler
def test_a_driver_without_cards_says_the_same_as_no_driver(sample: Sample) -> None:
    assert sample(BOX.replace("count 2", "count 0")) == {"devices": [], "driver": "570.86.15", "error": NO_GPU}


@needs_compiler
def test_a_card_that_fell_off_the_bus_does_not_hide_the_others(sample: Sample) -> None:
    found = sample(BOX + FIRST + SECOND + "0.handle !15\n")
    assert [(device["index"], device["name"]) for device in found["devices"]] == [(1, "NVIDIA GeForce RTX 4090")]
    assert "1 of 2 GPUs do not answer" in found["error"]


def test_without_nvml_there_is_the_one_sentence_and_no_cards(tmp_path: Path) -> None:
    """A library that does not load stands in front of whatever this box has."""
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    assert run_sampler({"LD_LIBRARY_PATH": str(tmp_path)}) == {"devices": [], "driver": None, "error": NO_GPU}
