"""What the GPU sampler tells: through the real pynvml, over a library of ours that answers as a driver does (tests/support/nvml_stub.c)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import nvml_stub
from tests.support.nvml_stub import GIB, TWO_CARDS

ROOT = Path(__file__).parents[3]
NOBODYS_PID = 4_000_000_000  # above any kernel's limit
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="the NVML stub is compiled with gcc")

LOOP = """
import json, sys
from tuitune.hub.gpu import GpuSampler
for line in sys.stdin:
    tree = json.loads(line)
    if tree != "again":
        sampler = GpuSampler(tree)
    print(json.dumps(sampler.sample()), flush=True)
"""


class Driver:
    """A process that sees the stub's GPUs."""

    def __init__(self, folder: Path) -> None:
        self.values = folder / "values.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            cwd=ROOT,
            env=nvml_stub.environment(nvml_stub.build(folder), self.values),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def sample(self, values: str, tree: int | str | None = None) -> dict[str, Any]:
        """What a new sampler (tree="again": the last one) tells when the driver says `values`."""
        self.values.write_text(values)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(tree), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    one = Driver(tmp_path_factory.mktemp("nvml"))
    yield one
    one.process.kill()
    one.process.communicate()


def changed(key: str, value: str) -> str:
    """TWO_CARDS with another value for `key`."""
    return "".join(f"{key} {value}\n" if line.startswith(f"{key} ") else f"{line}\n" for line in TWO_CARDS.splitlines())


def test_every_value_comes_in_its_unit(driver: Driver) -> None:
    first, second = (sample := driver.sample(TWO_CARDS))["devices"]
    assert (sample["driver"], sample["error"]) == ("580.95.05", None)
    assert first == {
        "index": 0,
        "uuid": "GPU-aaaaaaaa-0000",
        "name": "NVIDIA H200",
        "util": 97,
        "mem_used": 21 * GIB,
        "mem_total": 140 * GIB,
        "proc_mem": None,
        "others": [],
        "power": 540.25,
        "power_limit": 700.0,
        "temp": 61,
        "sm_clock": 1980,
        "mem_clock": 3201,
        "reasons": ["power cap"],
        "ecc": 0,
    }
    assert (second["index"], second["name"], second["reasons"]) == (1, "NVIDIA GeForce RTX 4090", ["idle"])


def test_the_next_sample_is_a_new_look(driver: Driver) -> None:
    driver.sample(TWO_CARDS)
    assert driver.sample(changed("0.util", "12"), "again")["devices"][0]["util"] == 12


@pytest.mark.parametrize("error", [3, 4, 13, 15, 999], ids=["not supported", "no permission", "driver too old", "card lost", "unknown"])
@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("util", "util"),
        ("mem_used", "mem_used"),
        ("power", "power"),
        ("power_limit", "power_limit"),
        ("temp", "temp"),
        ("sm_clock", "sm_clock"),
        ("ecc", "ecc"),
        ("name", "name"),
    ],
)
def test_a_call_that_fails_blanks_that_value_alone(driver: Driver, call: str, field: str, error: int) -> None:
    whole = driver.sample(TWO_CARDS)["devices"][0]
    partly = driver.sample(changed(f"0.{call}", f"error {error}"))["devices"][0]
    blanked = {field, "mem_total"} if field == "mem_used" else {field}
    assert all(partly[name] is None for name in blanked)
    assert {name: value for name, value in partly.items() if name not in blanked} == {
        name: value for name, value in whole.items() if name not in blanked
    }


def test_ecc_that_a_geforce_does_not_have_is_no_zero(driver: Driver) -> None:
    assert driver.sample(TWO_CARDS)["devices"][1]["ecc"] is None


def test_a_driver_that_knows_only_the_old_memory_call_is_asked_that_way(driver: Driver) -> None:
    assert driver.sample(TWO_CARDS + "0.memory_v2 error 13\n")["devices"][0]["mem_used"] == 21 * GIB


def test_a_driver_that_knows_only_the_old_name_of_the_clock_reasons_is_asked_that_way(driver: Driver) -> None:
    old = changed("0.reasons", "error 13") + "0.old_reasons 0x60\n"
    assert driver.sample(old)["devices"][0]["reasons"] == ["thermal", "thermal (hardware)"]


def test_our_process_tree_is_told_from_everybody_else(driver: Driver) -> None:
    """This test and a child of it hold memory on GPU 0, the machine's first process (somebody else's) on both."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lines = f"0.process {os.getpid()} {3 * GIB}\n0.process {child.pid} {2 * GIB}\n0.process 1 {GIB}\n1.process 1 none\n"
    first, second = driver.sample(TWO_CARDS + lines, tree=os.getpid())["devices"]
    child.communicate()
    assert first["proc_mem"] == 5 * GIB
    assert [(other["pid"], other["mem"]) for other in first["others"]] == [(1, GIB)]
    assert first["others"][0]["name"]
    assert first["others"][0]["user"]
    assert second["proc_mem"] == 0, "our pids are known here, so on the other card we hold nothing"
    assert [(other["pid"], other["mem"]) for other in second["others"]] == [(1, None)]


def test_in_a_container_with_other_pids_our_memory_is_unknown_and_the_owners_are_hidden(driver: Driver) -> None:
    first, second = driver.sample(TWO_CARDS + f"0.process {NOBODYS_PID} {20 * GIB}\n", tree=os.getpid())["devices"]
    assert first["proc_mem"] is None
    assert first["others"] == [{"pid": NOBODYS_PID, "user": None, "name": "hidden", "mem": 20 * GIB}]
    assert second["proc_mem"] is None


def test_memory_that_the_driver_hides_is_unknown_and_not_zero(driver: Driver) -> None:
    assert driver.sample(TWO_CARDS + f"0.process {os.getpid()} none\n", tree=os.getpid())["devices"][0]["proc_mem"] is None


@pytest.mark.parametrize("error", [3, 4, 13, 15])
def test_who_may_not_see_the_processes_sees_the_rest(driver: Driver, error: int) -> None:
    """13 is a driver older than this call: pynvml then raises an error of another family."""
    first = driver.sample(TWO_CARDS + f"0.process error {error}\n", tree=os.getpid())["devices"][0]
    assert (first["proc_mem"], first["others"], first["util"]) == (None, [], 97)


def test_a_trainer_that_has_just_ended_leaves_its_card_to_be_told(driver: Driver) -> None:
    first = driver.sample(TWO_CARDS + f"0.process 1 {GIB}\n", tree=NOBODYS_PID)["devices"][0]
    assert (first["proc_mem"], [other["pid"] for other in first["others"]], first["util"]) == (None, [1], 97)


def test_a_card_that_fell_off_the_bus_leaves_the_other_one(driver: Driver) -> None:
    sample = driver.sample(TWO_CARDS + "0.handle error 15\n")
    assert [device["index"] for device in sample["devices"]] == [1]
    assert "1 of 2 GPUs do not answer" in sample["error"]


def test_a_box_whose_driver_has_no_card_says_so(driver: Driver) -> None:
    sample = driver.sample("driver 580.95.05\ncount 0\n")
    assert (sample["devices"], sample["error"]) == ([], "no NVIDIA GPU: training runs on the CPU")


@pytest.mark.parametrize(("code", "words"), [(9, "driver is not loaded"), (18, "reboot"), (4, "/dev/nvidia"), (999, "nvidia-smi")])
def test_a_driver_that_does_not_start_is_explained_with_its_remedy(driver: Driver, code: int, words: str) -> None:
    sample = driver.sample(f"init error {code}\n")
    assert (sample["devices"], sample["driver"]) == ([], None)
    assert words in sample["error"]
    assert "\n" not in sample["error"]


def test_without_nvidias_library_there_is_one_plain_sentence(tmp_path: Path) -> None:
    """A library of that name that is none stands for "not installed", so that this also holds on a box that has one."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    code = "import json; from tuitune.hub.gpu import GpuSampler; s = GpuSampler(); print(json.dumps(s.sample())); s.close()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert json.loads(done.stdout) == {"devices": [], "driver": None, "error": "no NVIDIA GPU: training runs on the CPU"}
    assert done.stderr == ""
