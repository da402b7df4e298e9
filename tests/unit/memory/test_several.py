"""The plan of each of several GPUs: copies with buckets under ddp, shares and gathered layers under fsdp."""

from dataclasses import replace

import pytest

from tests.support.model_shapes import CONFIGS
from tuitune.memory import static
from tuitune.memory.families import read_shape
from tuitune.memory.plan import Plan, plan
from tuitune.memory.settings import Device, Settings

EIGHT = read_shape(CONFIGS["llama3.1-8b"])
FULL = Settings(length=1024, batch=2, lora=False, weights="float32", accumulation=2)
LORA = Settings(length=1024, batch=2)
QLORA = replace(LORA, weights="nf4 double")
GIB = 1 << 30


def planned(settings: Settings, gpus: int, *, spread: bool = False) -> Plan:
    return plan(EIGHT, replace(settings, gpus=gpus, spread=spread), Device())


def at_peak(found: Plan, name: str) -> int:
    return found.parts[found.peak].get(name, 0)


@pytest.mark.parametrize("settings", [FULL, LORA, QLORA])
def test_a_copy_on_each_costs_the_gradients_once_more(settings: Settings) -> None:
    alone, two, eight = planned(settings, 1), planned(settings, 2), planned(settings, 8)
    assert two.allocated - alone.allocated == static.gradient_bytes(EIGHT, settings)
    assert eight.phases == two.phases, "each GPU has the same, however many there are"


def test_full_fine_tuning_that_no_gpu_could_do_alone() -> None:
    """Weights, gradients and two states in float32 are 16 bytes a parameter: 120 GiB, of which each of eight has an eighth."""
    assert planned(FULL, 1).allocated > 120 * GIB
    eight = planned(FULL, 8, spread=True)
    for name, share in (("weights", 4), ("optimizer states", 8)):
        assert at_peak(eight, name) == pytest.approx(share * EIGHT.parameters / 8, rel=1e-6)
    assert eight.parts["optimizer step"]["gradients"] == pytest.approx(4 * EIGHT.parameters / 8, rel=1e-6)
    assert eight.allocated < 30 * GIB


def test_layers_are_gathered_in_the_type_that_is_computed_in() -> None:
    layer = 218_112_000  # parameters of one of Llama 3.1 8B's layers
    head = 128_256 * 4096
    full = planned(FULL, 2, spread=True).parts["forward"]["gathered weights"]
    assert full == pytest.approx(2 * (2 * layer + head), rel=1e-3), "two layers and the head, 2 bytes each"
    packed = planned(QLORA, 2, spread=True).parts["forward"]["gathered weights"]
    assert packed == pytest.approx(2 * layer / 2 * 1.06 + 2 * head, rel=0.05), "4 bits stay packed"


def test_quantised_weights_are_whole_while_they_are_made() -> None:
    alone, two = planned(QLORA, 1), planned(QLORA, 2, spread=True)
    assert two.phases["load"] == alone.phases["load"]
    assert two.peak == "load", "of a model this small for its GPUs nothing later is larger"
    assert two.parts["forward"]["weights"] == -(-alone.parts["forward"]["weights"] // 2)


def test_more_gpus_need_less_each() -> None:
    needs = [planned(LORA, gpus, spread=True).allocated for gpus in (2, 4, 8)]
    assert needs == sorted(needs, reverse=True)


def test_an_adapter_adds_its_gradients_up_whole_between_micro_batches() -> None:
    whole = static.gradient_bytes(EIGHT, LORA)
    once, often = (planned(replace(LORA, accumulation=count), 4, spread=True).parts["backward, first layer"] for count in (1, 2))
    assert often["gradients"] == whole
    assert once["gradients"] <= whole // 4 + 1


def test_one_gpu_is_planned_as_ever() -> None:
    assert planned(LORA, 1) == plan(EIGHT, LORA, Device())
    assert "DDP buckets" not in planned(LORA, 1).parts["forward"]
