"""What tuitune leans on of liger-kernel: which families it patches, what its functions keep for the backward pass, and that a model
computes the same with its kernels. Skipped where it is not installed (`pip install -e .[fast]`); the last tests want a GPU."""

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import torch
import transformers

from tests.contract.test_memory_shapes import B16, F32, OWN, SIZES
from tests.support.fake_training import LENGTH, ROWS, hold
from tuitune.memory import backward
from tuitune.memory.families import FAMILIES, read_shape
from tuitune.memory.settings import Settings
from tuitune.trainer.kernel_choice import LIGER_FAMILIES

pytest.importorskip("triton")
patching = pytest.importorskip("liger_kernel.transformers.monkey_patch")
liger_rotary_pos_emb = pytest.importorskip("liger_kernel.transformers.rope").liger_rotary_pos_emb

OPS = ("rms_norm", "swiglu", "geglu", "rope")


class NoKernel:
    """Stands for a Triton kernel that is launched and writes nothing: what its caller allocates and keeps is all that is looked at."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPS:
        module = import_module(f"liger_kernel.ops.{name}")
        for attribute, value in vars(module).copy().items():
            if type(value).__module__.startswith("triton.runtime"):
                monkeypatch.setattr(module, attribute, NoKernel())
    look_for_backends()


@cache
def look_for_backends() -> None:
    """When a function is first called Liger logs which backends cannot be imported, and pytest keeps the log with all that the error's
    frames hold: not in what is counted."""
    liger_rotary_pos_emb(*[torch.zeros(1, 2, 4, 8, requires_grad=True)] * 2, *[torch.zeros(1, 4, 8)] * 2)


@pytest.fixture
def as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Liger also replaces names in transformers' own modules: put back when the test ends."""
    family = request.getfixturevalue("family")
    name = {"gemma3_text": "gemma3"}.get(family, family)
    module = import_module(f"transformers.models.{name}.modeling_{name}")
    before = vars(module).copy()
    yield
    vars(module).update(before)


def patch(model: Any) -> None:
    patching._apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False)


def test_every_family_that_is_counted_is_one_that_liger_patches() -> None:
    patched = set(patching.MODEL_TYPE_TO_APPLY_LIGER_FN)
    assert set(LIGER_FAMILIES) <= patched & set(FAMILIES)


def test_liger_s_own_loss_is_what_the_trainers_switch_off() -> None:
    for family in LIGER_FAMILIES:
        assert "fused_linear_cross_entropy" in inspect.signature(patching.MODEL_TYPE_TO_APPLY_LIGER_FN[family]).parameters


@pytest.mark.parametrize("family", LIGER_FAMILIES)
@pytest.mark.parametrize(("adapter", "checkpointed"), [(F32, False), (B16, False), (B16, True), (F32, True), (None, False)])
def test_what_a_model_keeps_with_liger_is_what_the_plan_says(
    family: str, adapter: torch.dtype | None, checkpointed: bool, no_kernels: None, as_it_was: None
) -> None:
    config = transformers.AutoConfig.for_model(family, **SIZES | OWN.get(family, {}))
    shape = read_shape(config.to_dict())
    settings = Settings(
        length=LENGTH,
        batch=ROWS,
        lora=adapter is not None,
        adapter_bytes=4 if adapter == F32 else 2,
        checkpoint_every=int(checkpointed),
        loss="none",
        liger=True,
    )
    held = hold(config, dtype=B16, adapter=adapter, checkpointed=checkpointed, patch=patch)
    assert sum(backward.kept(shape, settings).values()) == pytest.approx(held.kept, rel=0.01)
    # Stand-ins for tensors are never added to in place: where base and adapter both have a gradient for down's input, a third one is made
    # for their sum, here alone (autograd's input_buffer.cpp).
    peak = max(sum(parts.values()) for parts in backward.phases(shape, settings).values())
    assert peak == pytest.approx(held.peak, rel=0.065)


def test_transformers_patches_the_model_inside_the_adapters_when_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers.integrations import liger

    given: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(patching, "_apply_liger_kernel_to_instance", lambda model, **how: given.append((type(model).__name__, how)))
    monkeypatch.setattr("liger_kernel.transformers._apply_liger_kernel_to_instance", patching._apply_liger_kernel_to_instance)
    model = get_peft_model(tiny("llama", F32), LoraConfig(r=4, target_modules="all-linear"))
    liger.apply_liger_kernel(model, {"fused_linear_cross_entropy": False})
    assert given == [("LlamaForCausalLM", {"fused_linear_cross_entropy": False})]
    assert "apply_liger_kernel(self.model, self.args.liger_kernel_config)" in inspect.getsource(transformers.Trainer)


def tiny(family: str, dtype: torch.dtype) -> Any:
    config = transformers.AutoConfig.for_model(family, **SIZES | {"hidden_size": 256, "intermediate_size": 512})
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Triton's kernels run on a GPU")
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_logits_and_adapters_gradients_are_the_same_with_liger(family: str, as_it_was: None) -> None:
    """In bfloat16: logits within 3e-2 of each other where they are about 1 (8 bits are 4e-3 a step, over two layers), gradients of all
    adapters together in one direction (cosine 0.999) and of one length (1 %)."""
    from peft import LoraConfig, get_peft_model

    words = torch.randint(0, SIZES["vocab_size"], (2, 64), generator=torch.Generator().manual_seed(1)).cuda()
    found = []
    for with_liger in (False, True):
        model = get_peft_model(tiny(family, B16), LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)).cuda()
        generator = torch.Generator().manual_seed(2)
        for name, weight in sorted(model.named_parameters()):
            if "lora_" in name:
                weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
        if with_liger:
            patch(model.get_base_model())
        with torch.autocast("cuda", B16):
            out = model(input_ids=words, labels=words)
        out.loss.backward()
        gradients = torch.cat([weight.grad.flatten().float() for weight in model.parameters() if weight.requires_grad])
        found.append((out.logits.float(), gradients))
    (logits, gradient), (others, other) = found
    assert (logits - others).abs().max() <= 3e-2 * logits.abs().max().clamp(min=1.0)
    assert torch.nn.functional.cosine_similarity(gradient, other, dim=0) >= 0.999
    assert other.norm() == pytest.approx(gradient.norm().item(), rel=0.01)
