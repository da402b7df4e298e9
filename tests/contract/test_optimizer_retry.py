"""An optimizer step that runs out of memory: done once more where it has not begun, never twice."""

from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.support.out_of_memory import refuse  # noqa: E402
from tuitune.trainer.optimizer_retry import step_or_retry  # noqa: E402


class TestOptimizerStep:
    """What is tried again is a step that has not begun."""

    def step(self, optimizer: Any, step: Any) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        trainer = SimpleNamespace(state=SimpleNamespace(global_step=6))
        step_or_retry(step, optimizer, trainer, lambda **fields: told.append(fields))
        return told

    def weights(self) -> list[Any]:
        weights = [torch.nn.Parameter(torch.ones(4)) for _ in range(2)]
        for weight in weights:
            weight.grad = torch.ones(4)
        return weights

    @pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
    @pytest.mark.parametrize("first", [True, False], ids=["first step", "later step"])
    def test_a_state_that_is_half_made_is_made_again(self, kind: dict[str, bool], first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory runs out at the second weight's state: the first has one, nothing has moved."""
        weights, twins = self.weights(), self.weights()
        optimizer, twin = torch.optim.AdamW(weights, lr=0.1, **kind), torch.optim.AdamW(twins, lr=0.1, **kind)
        if not first:
            optimizer.step()
            twin.step()
        made, zeros_like = [], torch.zeros_like

        def short(*args: Any, **kwargs: Any) -> Any:
            made.append(args)
            if len(made) == 4:
                refuse()
            return zeros_like(*args, **kwargs)

        if first:
            monkeypatch.setattr(torch, "zeros_like", short)
            told = self.step(optimizer, optimizer.step)
        else:
            failing = iter([True, False])
            told = self.step(optimizer, lambda: refuse() if next(failing) else optimizer.step())
        monkeypatch.undo()
        twin.step()
        assert [torch.equal(one, other) for one, other in zip(weights, twins, strict=True)] == [True, True]
        assert [(one["step"], one["retry"], one["why"]) for one in told] == [(7, "the step", None)]

    @pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}, {"foreach": False}], ids=str)
    def test_a_step_that_had_begun_is_not_done_twice(self, kind: dict[str, bool]) -> None:
        optimizer = torch.optim.AdamW(self.weights(), lr=0.1, **kind)

        def late() -> None:
            optimizer.step()
            refuse()

        with pytest.raises(torch.OutOfMemoryError) as caught:
            self.step(optimizer, late)
        assert "it had already changed weights" in caught.value.__notes__[0]

    def test_an_optimizer_that_keeps_no_counters_is_not_tried_again(self) -> None:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            self.step(torch.optim.SGD(self.weights(), lr=0.1), refuse)
        assert "how far SGD came is not known" in caught.value.__notes__[0]
