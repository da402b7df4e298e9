"""The adapter's part is what peft computes, in layers of the installed peft and bitsandbytes, forward and backward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.utils.checkpoint import checkpoint

from tests.bench.lora_addition import AddedByTheProduct, add_by_product
from tuitune.trainer.box import Box

GPU = Box(True, "H200", (9, 0))
X = torch.randn(2, 12, 64, generator=torch.Generator().manual_seed(1))
Found = tuple[torch.Tensor, ...]


class Two(torch.nn.Module):  # type: ignore[misc]
    """Two layers that read each other, with a bias and without one."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(64, 96), torch.nn.Linear(96, 64, bias=False)

    def forward(self, x: torch.Tensor) -> Any:
        return self.down(torch.nn.functional.silu(self.up(x)))


def adapted(dtype: torch.dtype, four_bit: bool = False, **more: Any) -> Any:
    """The same weights for every call: the base in `dtype`, the adapter in float32 and no longer at nothing."""
    torch.manual_seed(0)
    base: Any = Two().to(dtype)
    if four_bit:
        bnb = pytest.importorskip("bitsandbytes")
        for name in ("up", "down"):
            plain = getattr(base, name)
            layer = bnb.nn.Linear4bit(
                plain.in_features, plain.out_features, bias=plain.bias is not None, compute_dtype=dtype, quant_type="nf4"
            )
            layer.load_state_dict(plain.state_dict())
            setattr(base, name, layer.to("cpu"))
        base.is_loaded_in_4bit = True  # what peft goes by
    model = get_peft_model(base, LoraConfig(r=8, lora_alpha=24, target_modules=["up", "down"], init_lora_weights=False, **more))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False
    return model


def passed(model: Any, x: torch.Tensor, through: Callable[..., torch.Tensor] | None = None) -> Found:
    """Output, the gradient of the input, and those of the adapter's weights, in float32."""
    x = x.clone().requires_grad_()
    out = through(x) if through else model(x)
    out.float().square().sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    return tuple(one.detach().float() for one in (out, x.grad, *gradients))


def close(ones: Found, others: Found, within: float) -> bool:
    """Whether every tensor differs by less than that share of its largest number."""
    return all((one - other).abs().max() <= within * other.abs().max() for one, other in zip(ones, others, strict=True))


def test_in_float32_it_is_peft_s_sum_forward_and_backward() -> None:
    plain, ours = adapted(torch.float32), adapted(torch.float32)
    assert add_by_product(ours, GPU, "ddp") == 2
    assert close(passed(ours, X), passed(plain, X), 1e-5)


@pytest.mark.parametrize("four_bit", [False, True], ids=["bf16", "4-bit"])
def test_under_autocast_it_is_as_near_to_the_exact_sum_as_peft_is(four_bit: bool) -> None:
    plain, ours, exact = adapted(torch.bfloat16, four_bit), adapted(torch.bfloat16, four_bit), adapted(torch.bfloat16)
    assert add_by_product(ours, GPU, "ddp") == 2
    with torch.autocast("cpu", torch.bfloat16):
        found, peft = passed(ours, X.bfloat16()), passed(plain, X.bfloat16())
    assert close(found, peft, 0.03)
    if not four_bit:
        true = passed(exact.float(), X.bfloat16().float())
        off, peft_off = ((one[0] - true[0]).norm() for one in (found, peft))
        assert off <= peft_off


def test_activations_that_are_computed_again_give_the_same_gradients() -> None:
    model, again = adapted(torch.bfloat16), adapted(torch.bfloat16)
    for one in (model, again):
        add_by_product(one, GPU, "ddp")
    with torch.autocast("cpu", torch.bfloat16):
        once = passed(model, X.bfloat16())
        twice = passed(again, X.bfloat16(), lambda x: checkpoint(again, x, use_reentrant=False))
    assert close(twice, once, 0.0)


def test_outside_of_autocast_it_is_peft_s_own_formula() -> None:
    """An answer in the middle of a training is generated without it."""
    plain, ours = adapted(torch.float32), adapted(torch.float32)
    add_by_product(ours, GPU, "ddp")
    assert torch.equal(ours(X[0]), plain(X[0]))


def test_without_the_adapter_the_base_model_answers() -> None:
    model = adapted(torch.float32)
    add_by_product(model, GPU, "ddp")
    torch.manual_seed(0)
    base = Two()
    assert not torch.equal(model(X), base(X))
    with model.disable_adapter():
        assert torch.equal(model(X), base(X))


@pytest.mark.parametrize(
    ("box", "strategy", "more"),
    [
        (Box(False, "CPU", (0, 0)), "ddp", {}),
        (GPU, "fsdp", {}),
        (GPU, "ddp", {"use_dora": True}),
        (GPU, "ddp", {"lora_bias": True}),
    ],
    ids=["on the CPU", "with FSDP", "DoRA", "a bias of the adapter's own"],
)
def test_what_is_not_plain_is_left_to_peft(box: Box, strategy: str, more: dict[str, Any]) -> None:
    model = adapted(torch.float32, **more)
    assert add_by_product(model, box, strategy) == 0
    kinds = {type(variant) for module in model.modules() if isinstance(module, LoraLayer) for variant in module.lora_variant.values()}
    assert AddedByTheProduct not in kinds
