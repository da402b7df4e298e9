"""What preflight and doctor say of a computer: each check on a box with the fault and on one without it."""

import json
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.model_shapes import CONFIGS
from tests.support.planted import sound_box
from tuitune.preflight.box import Box
from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.cards import CPU, GIB, Card, known_name, parse_card, this_box
from tuitune.preflight.context import Context
from tuitune.preflight.environment import TESTED
from tuitune.preflight.finding import Finding
from tuitune.preflight.registry import Stage, all_checks
from tuitune.preflight.run import run_checks
from tuitune.recipe.document import parse
from tuitune.recipe.recipe import from_document

HOPPER = Card("NVIDIA H100 80GB HBM3", 80 * GIB, (9, 0))
OLD = Card("Tesla T4", 16 * GIB, (7, 5))


def device(**changes: Any) -> dict[str, Any]:
    free = {"index": 0, "name": "H100", "mem_used": GIB // 2, "mem_total": 80 * GIB, "others": [], "temp": 40}
    return {**free, "uuid": f"GPU-{changes.get('index', 0)}", **changes}


def torch(**changes: Any) -> dict[str, Any]:
    works = {
        "version": "2.13.0",
        "cuda": "13.0",
        "available": True,
        "devices": [{"name": "H100", "capability": [9, 0]}],
        "archs": ["sm_80", "sm_90", "compute_120"],
    }
    return {"torch": {**works, **changes}, "bitsandbytes": {"version": "0.50.2", "works": True}}


def gpu_box(**changes: Any) -> Box:
    sound = replace(sound_box(), devices=[device()], driver="580.10", driver_cuda=(13, 0), libraries=torch())
    return replace(sound, **changes)


def write_weights(folder: Path, rows: int = 1000, hidden: int = 64) -> None:
    """A model folder with headers only: the weights' bytes are a hole in the file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": rows}))
    names = {"model.embed_tokens.weight": [rows, hidden], "model.layers.0.self_attn.q_proj.weight": [hidden, hidden]}
    header, end = {}, 0
    for name, shape in names.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def asked(folder: Path, text: str = "", card: Card = HOPPER, **weights: int) -> Context:
    write_weights(folder / "model", **weights)
    recipe = f"task: sft\nmodel: {{name_or_path: ./model}}\ndataset: {{train: [{{path: a.jsonl}}]}}\n{text}"
    document = parse(recipe, folder / "r.yaml")
    return Context(from_document(document, folder / "r.yaml", folder), document, card)


def found(box: Box, context: Context | None = None, card: Card = HOPPER, workspace: Path = Path("/tmp")) -> dict[str, Finding]:
    around = BoxContext(box, context.card if context else card, workspace, context)
    return {finding.id: finding for finding in run_checks(all_checks(), around, {Stage.BOX}).findings}


QUANTISED = "quantization: {load_in_4bit: true}\npeft: {r: 8}\n"
WORKERS = "training: {dataloader_num_workers: 4}\n"
COMPILE = "training: {torch_compile: true}\n"
WORDS = "Something typical. Original error: libbitsandbytes_cuda130.so: not found"
BROKEN_BNB = {**torch(), "bitsandbytes": {"version": "0.50.2", "works": False, "error": WORDS}}
NO_BNB = {**torch(), "bitsandbytes": {"version": None, "works": False, "error": "ModuleNotFoundError: No module named 'bitsandbytes'"}}
NEIGHBOUR = {"pid": 4711, "user": "mia", "name": "python", "mem": 70 * GIB}

HIDDEN = {"CUDA_VISIBLE_DEVICES": "7"}

FAULTS: list[tuple[str, str, str, Callable[[], Box], str]] = [
    ("ENV01", "error", "", lambda: gpu_box(libraries=torch(available=False, cuda=None)), "CPU build"),
    ("ENV01", "error", "", lambda: gpu_box(libraries=torch(available=False), driver_cuda=(12, 4)), "speaks CUDA 12.4"),
    ("ENV01", "error", "", lambda: gpu_box(libraries=torch(available=False), environment={"CUDA_VISIBLE_DEVICES": ""}), "hides it"),
    ("ENV01", "error", "", lambda: gpu_box(libraries=torch(archs=["sm_100", "sm_120"])), "no code for H100"),
    ("ENV01", "error", "", lambda: gpu_box(libraries={"error": "exit code -6"}), "exit code -6"),
    ("ENV01", "error", "", lambda: gpu_box(devices=[], nvml_error="the NVIDIA driver is not loaded"), "not loaded"),
    ("ENV02", "error", QUANTISED, lambda: gpu_box(libraries=BROKEN_BNB), "libbitsandbytes_cuda130.so"),
    ("ENV02", "error", QUANTISED, lambda: gpu_box(libraries=NO_BNB), "pip install bitsandbytes"),
    ("ENV02", "error", "training: {optim: paged_adamw_8bit}\n", lambda: gpu_box(libraries=NO_BNB), "pip install bitsandbytes"),
    ("ENV03", "warning", "", lambda: gpu_box(devices=[device(others=[NEIGHBOUR], mem_used=70 * GIB)]), "python of mia (pid 4711)"),
    ("ENV03", "error", "", lambda: gpu_box(devices=[device(others=[NEIGHBOUR])], exclusive=[0]), "one process at a time"),
    ("ENV04", "warning", "", lambda: gpu_box(), "only emulates it"),
    ("ENV05", "error", "", lambda: gpu_box(disk_free=lambda path: 1000), "checkpoints of this run"),
    ("ENV07", "warning", WORKERS, lambda: gpu_box(shared_memory=64 << 20), "/dev/shm has 64 MiB"),
    ("ENV07", "warning", WORKERS, lambda: gpu_box(open_files=1024), "1024 files"),
    ("ENV07", "warning", "", lambda: gpu_box(memory=100_000), "largest weight file"),
    ("ENV07", "info", "", lambda: gpu_box(logout="a logout ends runs; run `loginctl enable-linger` once"), "enable-linger"),
    ("ENV08", "warning", "", lambda: gpu_box(versions={**TESTED[0], "trl": "0.9.6"}), "trl 0.9.6 (tested: 1.16.0)"),
    ("ENV09", "error", COMPILE, lambda: gpu_box(compiler=False), "a C compiler"),
    ("TRN12", "error", "launch: {gpus: 4}\n", lambda: gpu_box(), "4 GPUs, and 1 is to be seen here"),
    (
        "TRN12",
        "error",
        "launch: {gpus: 2}\n",
        lambda: gpu_box(devices=[device(), device(index=1)], environment=HIDDEN),
        "2 GPUs, and none is",
    ),
    ("ENV10", "info", "", lambda: gpu_box(encoding="ANSI_X3.4-1968"), "PYTHONUTF8"),
    ("ENV10", "warning", "", lambda: gpu_box(clock=0.0), "1970"),
]


@pytest.mark.parametrize(("id", "severity", "text", "box", "words"), FAULTS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_fault_of_the_box_is_found(tmp_path: Path, id: str, severity: str, text: str, box: Callable[[], Box], words: str) -> None:
    card = OLD if id == "ENV04" else HOPPER
    recipe = asked(tmp_path, text, card)
    if id == "ENV04":
        recipe.recipe.model["dtype"] = "bfloat16"
    finding = found(box(), recipe)[id]
    assert (finding.severity, words in finding.message) == (severity, True), finding.message


def test_a_sound_box_has_no_findings(tmp_path: Path) -> None:
    assert found(gpu_box(), asked(tmp_path, QUANTISED + WORKERS + "output: {runs: runs}\n")) == {}
    assert found(gpu_box()) == {}


@pytest.mark.parametrize(
    ("text", "box"),
    [
        pytest.param("launch: {gpus: cpu}\n", gpu_box(libraries=torch(available=False, cuda=None)), id="a run on the CPU needs no CUDA"),
        pytest.param("", gpu_box(libraries=NO_BNB), id="a recipe without 4 bits needs no bitsandbytes"),
        pytest.param("", gpu_box(shared_memory=64 << 20, open_files=1024), id="small limits without workers"),
        pytest.param("launch: {gpus: 2}\n", gpu_box(devices=[device(), device(index=1)]), id="two GPUs for two"),
        pytest.param("", gpu_box(compiler=False), id="no compiler where nothing is compiled"),
        pytest.param("", gpu_box(versions={**TESTED[1], "torch": "2.11.1+cu130"}), id="a patch release of the older tested set"),
        pytest.param("", gpu_box(libraries=torch(archs=["sm_80", "compute_80"])), id="code that is compiled for the newer card"),
        pytest.param("training: {save_strategy: no}\n", gpu_box(disk_free=lambda path: 1000), id="no checkpoints, no room needed"),
        pytest.param(
            "", gpu_box(devices=[device(others=[NEIGHBOUR], mem_used=70 * GIB), device(index=1)]), id="the other card of two is free"
        ),
    ],
)
def test_what_only_looks_like_a_fault_is_left_alone(tmp_path: Path, text: str, box: Box) -> None:
    assert found(box, asked(tmp_path, text)) == {}


def test_a_named_card_keeps_this_boxs_gpu_out_of_it(tmp_path: Path) -> None:
    named = replace(HOPPER, named=True)
    assert found(gpu_box(libraries=torch(available=False), devices=[device(others=[NEIGHBOUR])]), asked(tmp_path, card=named)) == {}


def test_a_run_that_cannot_fit_beside_its_neighbour_says_what_it_needs(tmp_path: Path) -> None:
    box = gpu_box(devices=[device(others=[NEIGHBOUR], mem_used=79 * GIB)])
    finding = found(box, asked(tmp_path, rows=4_000_000))["ENV03"]  # 4 million rows × 64 × 16 bytes
    assert "1.0 GiB of 80.0 GiB free, this run needs more than 3.8 GiB" in finding.message
    assert finding.evidence["others"] == ["python of mia (pid 4711): 70.0 GiB"]


WIDE = """
peft: {r: 16, target_modules: all-linear}
training: {max_length: 2048, per_device_train_batch_size: 16, gradient_accumulation_steps: 1}
"""


def planned(folder: Path, text: str = WIDE, card: Card = HOPPER) -> Context:
    """A recipe whose model has a memory plan: 10 GiB and some."""
    context = asked(folder, text, card)
    (folder / "model" / "config.json").write_text(json.dumps(CONFIGS["llama3.2-1b"]))
    return context


def test_the_planned_peak_is_held_against_what_others_leave(tmp_path: Path) -> None:
    neighbour = {**NEIGHBOUR, "mem": 72 * GIB}
    context = planned(tmp_path)
    finding = found(gpu_box(devices=[device(others=[neighbour], mem_used=72 * GIB)]), context)["ENV03"]
    need = BoxContext(gpu_box(), HOPPER, tmp_path, context).need
    assert need is not None
    assert 8 * GIB < need.bytes == finding.evidence["needed"] < 20 * GIB
    assert f"8.0 GiB of 80.0 GiB free, this run is planned to need {need.bytes / GIB:.1f} GiB at its peak (" in finding.message
    assert "python of mia (pid 4711) holds 72.0 GiB: it will run out of memory" in finding.message
    assert "training.per_device_train_batch_size: " in finding.message
    assert "with training.gradient_accumulation_steps: " in finding.message
    room = 79 * GIB - need.bytes
    left = found(gpu_box(devices=[device(others=[{**NEIGHBOUR, "mem": room}], mem_used=room)]), context)["ENV03"]
    assert "will run out of memory" not in left.message, "what is left is enough"


SMALL_CARD = Card("RTX 3060", 12 * GIB, (8, 6), named=True)


@pytest.mark.parametrize("card", [SMALL_CARD, replace(SMALL_CARD, named=False)], ids=["named", "this box's"])
def test_a_run_that_is_larger_than_its_card_says_what_to_change(tmp_path: Path, card: Card) -> None:
    box = sound_box() if card.named else gpu_box(devices=[device(name="RTX 3060", mem_total=12 * GIB)])
    finding = found(box, planned(tmp_path, WIDE.replace("size: 16", "size: 64"), card))["ENV11"]
    assert "RTX 3060 has 12.0 GiB, this run is planned to need " in finding.message
    assert "Train with less: training.per_device_train_batch_size: " in finding.message
    assert finding.where.key == "training.per_device_train_batch_size"
    assert "ENV03" not in found(box, planned(tmp_path, WIDE.replace("size: 16", "size: 64"), card))


def test_the_same_run_in_smaller_pieces_fits_its_card(tmp_path: Path) -> None:
    assert found(sound_box(), planned(tmp_path, WIDE.replace("size: 16", "size: 1"), SMALL_CARD)) == {}


def test_weights_alone_that_are_larger_than_the_card_are_found_without_a_plan(tmp_path: Path) -> None:
    finding = found(sound_box(), asked(tmp_path, card=SMALL_CARD, rows=16_000_000))["ENV11"]
    assert "needs more than 15.3 GiB for weights and their training alone" in finding.message
    assert finding.evidence["planned"] is False


def test_a_run_that_no_advice_makes_fit_is_told_so(tmp_path: Path) -> None:
    context = planned(tmp_path, card=replace(SMALL_CARD, memory=2 * GIB))
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIGS["llama3.1-8b"]))
    assert "are needed: take a smaller model too" in found(sound_box(), context)["ENV11"].message


def test_full_fine_tuning_with_adam_is_counted_into_the_checkpoints(tmp_path: Path) -> None:
    parameters = 1000 * 64 + 64 * 64
    box = gpu_box(disk_free=lambda path: parameters * 12 * 2)
    finding = found(box, asked(tmp_path, "training: {save_total_limit: 2}\n"))["ENV05"]
    assert finding.evidence["needed"] == 3 * 12 * parameters
    assert finding.severity == "warning"  # the first fits


def test_a_model_of_the_hub_that_is_not_here_and_cannot_come_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    context = asked(tmp_path)
    context.recipe.model["name_or_path"] = "some/model"
    box = gpu_box(reaches_hub=lambda: "huggingface.co cannot be reached from here")
    assert "some/model is not in the cache" in found(box, context)["ENV06"].message
    assert "ENV06" not in found(gpu_box(), context)


def test_a_cache_that_has_lost_its_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").symlink_to("../../blobs/gone")
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    context = asked(tmp_path)
    context.recipe.model["name_or_path"] = "some/model"
    assert "without model.safetensors" in found(gpu_box(reaches_hub=lambda: "no network"), context)["ENV06"].message


def test_doctor_tells_of_a_card_without_bfloat16() -> None:
    assert found(gpu_box(), card=OLD)["ENV04"].severity == "info"
    assert "ENV04" not in found(sound_box(), card=CPU)


def test_the_tested_sets_are_those_of_the_constraints_files() -> None:
    for tested, name in zip(TESTED, ("constraints.txt", "constraints-gpu.txt")):
        lines = (Path(__file__).parents[3] / name).read_text().splitlines()
        for package, version in tested.items():
            assert [line for line in lines if line.partition("==")[0] == package] == [f"{package}=={version}"], (name, package)


def test_the_clock_of_this_test_is_right() -> None:
    assert sound_box().clock == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("L4,24GiB,cc8.9", Card("L4", 24 * GIB, (8, 9), named=True)),
        ("cc7.5, 16GB", Card("GPU", 16 * GIB, (7, 5), named=True)),
        ("RTX 4090", Card("RTX 4090", int(23.64 * GIB), (8, 9), named=True)),
        ("4090", Card("4090", int(23.64 * GIB), (8, 9), named=True)),
        ("A100,40GiB", Card("A100", 40 * GIB, (8, 0), named=True)),
        ("NVIDIA A100-SXM4-80GB", Card("NVIDIA A100-SXM4-80GB", int(79.15 * GIB), (8, 0), named=True)),
        ("cpu", Card("CPU", named=True, gpu=False)),
    ],
)
def test_a_card_is_named_by_parts_in_any_order(text: str, card: Card) -> None:
    assert parse_card(text) == card


@pytest.mark.parametrize(
    ("driver", "known"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4080 Laptop GPU", None),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L40", None),
        ("Radeon", None),
    ],
)
def test_the_drivers_names_of_cards_are_known(driver: str, known: str | None) -> None:
    assert known_name(driver) == known


def test_the_memory_of_this_box_s_card_is_what_the_driver_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def memory(handle: object, version: object = None) -> SimpleNamespace:
        return SimpleNamespace(total=24 * GIB, reserved=GIB // 2) if version else SimpleNamespace(total=24 * GIB)

    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: object())
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: "NVIDIA L4")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", lambda handle: (8, 9))
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)
    assert this_box() == Card("NVIDIA L4", 24 * GIB - GIB // 2, (8, 9), driver="580.1")
    monkeypatch.delattr(pynvml, "nvmlMemory_v2")
    assert this_box().memory == 24 * GIB


def test_the_probe_finds_tuitune_wherever_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuitune.preflight.box import look_at_box

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    box = look_at_box()
    assert box.libraries["torch"]["version"]
    assert box.libraries["bitsandbytes"]["works"]


def test_doctor_warns_of_a_logout_that_ends_runs() -> None:
    said = found(gpu_box(logout="a logout ends runs; run `loginctl enable-linger` once"))["ENV07"]
    assert said.severity == "warning"
    assert "enable-linger" in said.message
