"""A model without memory as a recipe trains it: transformers' class on the meta device, bitsandbytes' layers, peft's adapters; then as
fake tensors."""

from collections import Counter as Tally
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers.integrations import replace_with_bnb_linear
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import should_convert_module

from tuitune.analyst.meta_memory.stand_ins import four_bit_forward
from tuitune.errors import UserError
from tuitune.memory.measured import RANK, Adapters, Targets, Way
from tuitune.text import printable
from tuitune.trainer.adapter_dtype import leave_inputs

HALF, FULL = torch.bfloat16, torch.float32  # float16 takes as many bytes


@dataclass(frozen=True)
class Parts:
    """Where a model has what: `layers` are its decoder layers by name, in order; `linears`: name → (inputs, outputs, bias) of what
    bitsandbytes would quantise; `tensors`: (elements, how many) of all else but embedding and head."""

    layers: tuple[str, ...]
    linears: dict[str, tuple[int, int, bool]]
    tensors: tuple[tuple[int, int], ...]
    vocab: int
    hidden: int
    tied: bool
    head_bias: bool


def bare_model(folder: Path, dtype: torch.dtype, eager: bool = False) -> Any:
    """The language model that config.json in `folder` describes, on the meta device. UserError when transformers has no class for it."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=False, **({"attn_implementation": "eager"} if eager else {})
            )
    except Exception as error:
        made_by = f"transformers {transformers.__version__}"
        raise UserError(f"{made_by} cannot make this model from its config ({why(error)})") from error


def why(error: Exception) -> str:
    """A library's error in a few words."""
    return f"{type(error).__name__}: {printable(str(error).strip().partition(chr(10))[0], limit=240)}"


def parts_of(model: Any) -> Parts:
    """What there is in a bare model. UserError for one whose layers or embedding cannot be told."""
    inside = model.base_model.named_modules(prefix=model.base_model_prefix)
    layers = tuple(name for name, module in inside if isinstance(module, GradientCheckpointingLayer))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not layers or head is None or not isinstance(embedding, torch.nn.Embedding):
        raise UserError(f"no decoder layers, embedding or head can be told apart in a {type(model).__name__}")
    hidden = int(model.config.get_text_config().hidden_size)
    if embedding.embedding_dim != hidden or head.weight.shape[1] != hidden:
        raise UserError(f"the embedding of this {type(model).__name__} is not as wide as its layers")
    skipped = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    converted = [name for name, module in model.named_modules() if _is_linear(module) and should_convert_module(name, skipped)]
    linears = {name: _sizes(model.get_submodule(name)) for name in converted}
    apart = {id(embedding.weight), id(head.weight), id(getattr(head, "bias", None))}
    apart |= {id(model.get_submodule(name).weight) for name in linears}
    tensors = Tally(parameter.numel() for parameter in model.parameters() if id(parameter) not in apart)
    return Parts(
        layers,
        linears,
        tuple(sorted(tensors.items())),
        vocab=embedding.num_embeddings,
        hidden=hidden,
        tied=head.weight is embedding.weight,
        head_bias=getattr(head, "bias", None) is not None,
    )


def _is_linear(module: Any) -> bool:
    return type(module) is torch.nn.Linear or isinstance(module, Conv1D)


def _sizes(module: Any) -> tuple[int, int, bool]:
    rows, columns = module.weight.shape
    inputs, outputs = (rows, columns) if isinstance(module, Conv1D) else (columns, rows)
    return inputs, outputs, module.bias is not None


def shortened(model: Any, names: tuple[str, ...], count: int) -> None:
    """Leave the first `count` decoder layers only, in place."""
    inside, _, _ = names[0].rpartition(".")
    setattr(model.get_submodule(inside.rpartition(".")[0]), inside.rpartition(".")[2], model.get_submodule(inside)[:count])
    model.config.get_text_config().num_hidden_layers = count


def adapt(model: Any, targets: Targets, rank: int = RANK, dropout: bool = False) -> Any:
    """The model with peft's LoRA adapters. UserError when peft cannot."""
    wanted = list(targets) if isinstance(targets, tuple) else targets
    config = LoraConfig(r=rank, target_modules=wanted, lora_dropout=0.1 if dropout else 0.0, task_type="CAUSAL_LM")
    try:
        with torch.device("meta"):
            return get_peft_model(model, config, autocast_adapter_dtype=False)
    except Exception as error:
        raise UserError(f"peft cannot put adapters on this model ({why(error)})") from error


def adapters_of(model: Any, targets: Targets) -> Adapters:
    """What peft has put on a model with adapters of a rank of RANK."""
    sizes = Tally(parameter.numel() // RANK for parameter in model.parameters() if parameter.requires_grad)
    return Adapters(targets, tuple(sorted(sizes.items())), sum(isinstance(module, BaseTunerLayer) for module in model.modules()))


def quantise(model: Any) -> None:
    """Linear4bit in the place of the layers that transformers would quantise, in place."""
    skipped = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=HALF
    )
    replace_with_bnb_linear(model, modules_to_not_convert=skipped, quantization_config=config)
    model.is_loaded_in_4bit = True  # what peft looks at


def trained_model(model: Any, way: Way) -> Any:
    """A bare model made ready to be trained in a way; on the meta device."""
    if way.weights == "nf4":
        quantise(model)
    if not way.lora:
        return model
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    adapted = adapt(model, way.targets, dropout=way.dropout)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(FULL if way.adapter_bytes == 4 else HALF)
    if not way.input_casts:
        leave_inputs(adapted)
    return adapted


def materialise(model: torch.nn.Module) -> None:
    """Fake tensors on the CPU in the place of those on the meta device; tied weights stay tied. Call it under FakeTensorMode."""
    made: dict[torch.nn.Parameter, torch.nn.Parameter] = {}
    for module in model.modules():
        four_bit = isinstance(module, bitsandbytes.nn.Linear4bit)
        if four_bit:
            module.forward = four_bit_forward(module)
        for name, parameter in list(module._parameters.items()):
            if parameter is None or (four_bit and name == "weight"):
                continue
            if parameter not in made:
                fresh = torch.empty(parameter.shape, dtype=parameter.dtype)
                made[parameter] = torch.nn.Parameter(fresh, requires_grad=parameter.requires_grad)
            module._parameters[name] = made[parameter]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
