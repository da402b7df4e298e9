"""What a fresh process has loaded: the terminal side never reaches the torch stack, the trainer side never the interface."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TORCH_STACK = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes"}
SLOW = {"numpy", "pandas", "pyarrow", "pydantic", "huggingface_hub"}  # 100 ms and more before the first paint

TERMINAL_SIDE = [
    "tuitune.after.commands",
    "tuitune.after.job",
    "tuitune.after.source",
    "tuitune.after.start",
    "tuitune.cli",
    "tuitune.console",
    "tuitune.recipe.recipe",
    "tuitune.recipe.report",
    "tuitune.recipe.complete",
    "tuitune.bus.client",
    "tuitune.bus.journal",
    "tuitune.bus.trainer_link",
    "tuitune.runs.listing",
    "tuitune.hub.launch",
    "tuitune.hub.supervisor",
    "tuitune.hub.gpu",
    "tuitune.dataset.sources",
    "tuitune.dataset.columns",
    "tuitune.dataset.load",
    "tuitune.dataset.reader.client",
    "tuitune.dataset.reader.operations",
    "tuitune.demo.workspace",
    "tuitune.files",
    "tuitune.memory.advice",
    "tuitune.memory.report",
    "tuitune.network",
    "tuitune.planning",
    "tuitune.secrets",
    "tuitune.template.marking",
    "tuitune.template.report",
    "tuitune.template.spans",
    "tuitune.versions",
    "tuitune.workbench.app",
    "tuitune.workbench.views.dataset_view",
    "tuitune.workbench.views.plan_view",
    "tuitune.workbench.views.recipe_editor",
    "tuitune.workbench.views.run_dashboard",
    "tuitune.workbench.views.runs_table",
    "tuitune.workbench.views.template_view",
]


def loaded_after(statement: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", TERMINAL_SIDE)
def test_the_terminal_side_loads_neither_the_torch_stack_nor_anything_slow(module: str) -> None:
    assert not loaded_after(f"import {module}") & (TORCH_STACK | SLOW)


def test_help_loads_nothing_that_a_command_needs() -> None:
    loaded = loaded_after("from tuitune.command_line import build_parser\nbuild_parser().format_help()")
    assert not loaded & (TORCH_STACK | SLOW | {"textual", "rich", "msgspec", "zmq", "ruamel", "pynvml"})


@pytest.mark.parametrize(
    "module", ["tuitune.hub.supervisor", "tuitune.bus.trainer_link", "tuitune.trainer.telemetry", "tuitune.trainer.build"]
)
def test_the_trainer_side_loads_no_interface(module: str) -> None:
    assert "textual" not in loaded_after(f"import {module}")


def test_the_layers_of_the_design_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def closure(wanted: list[str]) -> set[str]:
    """The names of these requirements and of all that the installed packages require; CUDA's own wheels apart, which torch pins."""
    names: set[str] = set()
    waiting = [Requirement(line) for line in wanted]
    while waiting:
        requirement = waiting.pop()
        name = requirement.name.lower().replace("_", "-")
        if name in names or name == "triton" or name.startswith(("nvidia-cu", "nvidia-nccl", "nvidia-nv", "cuda-")):
            continue
        names.add(name)
        waiting += [
            further
            for extra in ("", *requirement.extras)
            for further in map(Requirement, metadata.requires(name) or [])
            if further.marker is None or further.marker.evaluate({"extra": extra})
        ]
    return names


def test_the_tested_version_sets_pin_every_dependency_and_name_no_index() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = closure(wanted)
    for file in ("constraints.txt", "constraints-gpu.txt"):
        lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
        pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
        assert all(line.count("==") == 1 for line in lines), file
        assert names <= pinned, f"{file} does not pin {sorted(names - pinned)}"
        assert "://" not in (ROOT / file).read_text()
