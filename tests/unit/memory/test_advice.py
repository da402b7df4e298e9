"""The fit advisor: changes in order of what they cost, until it fits; the largest that fits."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.support.model_shapes import CONFIGS
from tuitune.memory.advice import WITHIN, advise, fits, largest_batch, largest_length
from tuitune.memory.families import read_shape
from tuitune.memory.plan import plan
from tuitune.memory.settings import Device, Settings

GIB = 1 << 30
DEVICE = Device()
SHAPE = read_shape(CONFIGS["qwen2.5-1.5b"])
WIDE = Settings(length=2048, batch=16, accumulation=2, checkpoint_every=0, eval_batch=16)
FULL = replace(WIDE, lora=False, weights="float32")


@pytest.mark.parametrize("settings", [WIDE, FULL, replace(WIDE, task="dpo", reference="shared")])
@pytest.mark.parametrize("memory", [6 * GIB, 12 * GIB, 24 * GIB, 48 * GIB])
def test_the_advice_ends_with_a_run_that_fits_with_five_per_cent_to_spare_and_the_same_effective_batch(
    settings: Settings, memory: int
) -> None:
    assert not fits(plan(SHAPE, settings, DEVICE), memory), "nothing to advise"
    advice = advise(SHAPE, settings, DEVICE, memory)
    assert advice[-1].plan.needed <= memory * WITHIN
    for before, after in pairwise(advice):
        assert after.plan.needed < before.plan.needed
        assert not fits(before.plan, int(memory * WITHIN)), "advice goes on although it fits"
    for one in advice:
        assert one.change.settings.batch * one.change.settings.accumulation == settings.batch * settings.accumulation


def test_the_cheapest_change_comes_first_and_names_the_recipe_keys() -> None:
    first = advise(SHAPE, WIDE, DEVICE, 24 * GIB)[0]
    assert first.change.values["training.gradient_accumulation_steps"] == 32 // int(
        str(first.change.values["training.per_device_train_batch_size"])
    )


def test_full_fine_tuning_that_cannot_fit_becomes_an_adapter_on_four_bits_before_rows_are_cut() -> None:
    keys = [key for one in advise(SHAPE, FULL, DEVICE, 6 * GIB) for key in one.change.values]
    assert keys.index("training.activation_checkpointing") < keys.index("training.optim") < keys.index("quantization.load_in_4bit")
    assert "training.max_length" not in keys


def test_a_run_that_fits_is_told_only_what_is_faster_and_fits_too() -> None:
    small = replace(WIDE, batch=1, eval_batch=1, checkpoint_every=1)
    keys = [next(iter(one.change.values)) for one in advise(SHAPE, small, DEVICE, 80 * GIB)]
    assert keys == ["training.activation_checkpointing", "training.per_device_train_batch_size"]
    assert advise(SHAPE, small, DEVICE, int(plan(SHAPE, small, DEVICE).needed / WITHIN) + 1) == []


def test_the_largest_batch_and_length_fit_and_the_next_ones_do_not() -> None:
    room = 16 * GIB
    batch = largest_batch(SHAPE, WIDE, DEVICE, room)
    length = largest_length(SHAPE, WIDE, DEVICE, room)

    def needs(**change: int) -> int:
        return plan(SHAPE, replace(WIDE, **change), DEVICE).needed

    assert needs(batch=batch, eval_batch=0) <= room < needs(batch=batch + 1, eval_batch=0)
    assert needs(length=length) <= room < needs(length=length + 64)


def test_a_card_that_cannot_hold_the_weights_has_no_largest_batch() -> None:
    assert largest_batch(SHAPE, WIDE, DEVICE, 2 * GIB) == 0
    assert largest_length(SHAPE, WIDE, DEVICE, 2 * GIB) == 0
