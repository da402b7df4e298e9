"""TRL's fused head on the CPU: the positions that count, the same loss and gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from trl.kernels.chunked_logprob import ChunkedLogProbFunction, _use_triton
from trl.trainer import utils

from tests.support.tiny_model import make_tiny_model
from tuitune.trainer.scored_positions import ASKED, score_what_counts


@pytest.fixture
def as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What TRL asks as it comes; a trainer on the CPU that another test built in this process has changed it. Put back after the test."""
    monkeypatch.setattr(utils, ASKED, _use_triton)


def scored(model: Any, labels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Any, torch.Tensor]:
    """How many positions the head was computed for, what came out, and the gradient of the embeddings."""
    counts: list[int] = []
    real = ChunkedLogProbFunction.apply

    def counted(hidden: torch.Tensor, *rest: Any) -> Any:
        counts.append(len(hidden))
        return real(hidden, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(utils._ChunkedLogProbFunction, "apply", counted)
        model.zero_grad()
        out = model(input_ids=labels.clamp(min=0), labels=labels, fused_lm_head=True)
    out.loss.backward()
    return counts[0], out, model.get_input_embeddings().weight.grad.clone()


def test_only_what_counts_is_scored_and_nothing_else_changes(as_it_comes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "model"))
    utils.add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    labels = torch.arange(3, 27).reshape(2, 12).clone()
    labels[0, :8] = labels[1, 10:] = -100
    before, theirs, gradient = scored(model, labels, monkeypatch)
    assert before == 2 * 11, "TRL scores every position without Triton: this module can go when it does not any more"
    score_what_counts()
    after, ours, again = scored(model, labels, monkeypatch)
    assert after == 4 + 9
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=1e-6)
    torch.testing.assert_close(again, gradient, rtol=0, atol=1e-6)
    for name in ("log_probs", "entropy", "is_top1"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name).to(getattr(ours, name).dtype), rtol=0, atol=1e-5)


def test_rows_without_anything_that_counts_still_have_a_loss_to_learn_from(as_it_comes: None, tmp_path: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "model"))
    utils.add_fused_lm_head(model)
    score_what_counts()
    out = model(input_ids=torch.arange(3, 9)[None], labels=torch.full((1, 6), -100), fused_lm_head=True)
    out.loss.backward()
    assert out.loss == 0
