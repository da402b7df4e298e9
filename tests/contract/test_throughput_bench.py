"""tests.bench.throughput on the CPU: every variant of tuitune that there is without a GPU, with its profile, on a tiny model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import throughput
from tests.bench.throughput import CASES, PROFILED, break_even, summed_up, table, tuitune, write_rows
from tests.support.tiny_model import make_tiny_model

CASE = replace(CASES["demo"], steps=6, training={"max_length": 64, "learning_rate": 1e-3})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("bench")
    model, data = make_tiny_model(folder / "model"), write_rows(folder / "rows.jsonl", count=60)
    patch = pytest.MonkeyPatch()
    patch.setattr(throughput, "BACKEND", "aot_eager")  # inductor takes minutes to begin on two cores
    tools = ("tuitune", "tuitune+compile", "tuitune-liger+ckpt")
    made = {tool: summed_up(tuitune(tool, CASE, model, data, folder / tool, cpu=True, profile=True)) for tool in tools}
    patch.undo()
    return made


def test_every_variant_learns_the_same_and_is_counted(found: dict[str, dict[str, Any]]) -> None:
    assert not [one["error"] for one in found.values() if "error" in one]
    for one in found.values():
        assert len(one["losses"]) == CASE.steps - PROFILED
        assert one["losses"] == pytest.approx(found["tuitune"]["losses"], abs=1e-3)  # the journal rounds
        assert one["tokens_per_second"] > 0
    assert found["tuitune+compile"]["chosen"]["training.torch_compile"] is True
    assert len(table({"tiny": found}).splitlines()) == 1 + 3 + len(break_even(found))


def test_the_profile_says_where_the_time_went(found: dict[str, dict[str, Any]]) -> None:
    profile = found["tuitune"]["profile"]
    assert (profile["device"], profile["steps"]) == ("CPU", PROFILED)
    assert profile["classes"]["gemm"] > 0
    assert 0.3 < profile["busy"] <= 1.0
    assert "aten::mm" in [one["name"] for one in profile["top"]] or "aten::addmm" in [one["name"] for one in profile["top"]]
