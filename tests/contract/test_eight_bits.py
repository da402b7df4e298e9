"""A run on a base in 8 bits, on the CPU: it trains, answers, is measured in 8 bits and merges, and its log is not filled."""

import logging
from pathlib import Path

import pytest
import torch

from tests.contract.test_evaluation import evaluate, held_out, rows_of
from tests.support.trained import LORA, Trained, train_and_save
from tuitune.after.equivalence import check_merge
from tuitune.after.loading import load
from tuitune.after.merge import merge
from tuitune.after.merge_plan import plan_merge
from tuitune.after.source import Source, find_source
from tuitune.trainer.eight_bits import LOGGER

EIGHT = "quantization: {load_in_8bit: true}\n"


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    return train_and_save(tmp_path_factory.mktemp("eight") / "it", EIGHT + LORA)


def source_of(trained: Trained) -> Source:
    return find_source(str(trained.run.path), trained.workspace)


def test_it_trains_an_adapter_over_weights_of_8_bits(eight: Trained) -> None:
    assert eight.trainer.model.is_loaded_in_8bit
    assert all(record["loss"] > 0 for record in eight.trainer.state.log_history if "loss" in record)
    assert any("lora_B" in name and bool(weight.any()) for name, weight in eight.trainer.model.named_parameters())


def test_bitsandbytes_says_once_and_not_at_every_product_that_it_computes_in_float16(
    eight: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    model, tokenizer = load(source_of(eight), adapter=True, four_bit=True, device="cpu")
    logger = logging.getLogger(LOGGER)
    for known in logger.filters:
        known.seen.clear()  # type: ignore[union-attr]
    with torch.no_grad(), caplog.at_level(logging.WARNING, LOGGER):
        for _ in range(2):
            model(**tokenizer("the cat sat", return_tensors="pt"))
    told = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert len(told) == 1, "none: bitsandbytes has stopped saying it, and the filter can go"


def test_it_is_measured_in_8_bits_as_it_was_trained(eight: Trained, tmp_path: Path) -> None:
    document = evaluate(tmp_path, str(eight.run.path), data=held_out(tmp_path, rows_of(tmp_path)))
    assert document["source"]["precision"] == "8 bits"


def test_it_merges_into_the_16_bit_base(eight: Trained, tmp_path: Path) -> None:
    plan = plan_merge(source_of(eight), tmp_path / "merged")
    merge(source_of(eight), plan)
    found = check_merge(source_of(eight), plan, "cpu", lambda done, total, what: None, lambda: False)
    assert found["passed"], found["words"]
    assert found["four_bit"]["relative"] > 0, "the quantised base is compared beside it"
