"""What of a model decides its memory: sizes and counts, as its config.json gives them (tuitune.memory.families reads it)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tuitune.errors import UserError
from tuitune.memory.measured import Measured
from tuitune.text import printable

Source = Literal["attention norm", "attention", "mlp norm", "mlp"]


class NoFormula(UserError):
    """The model is of a kind that no formula describes; one without memory can be counted (tuitune.memory.unknown)."""


@dataclass(frozen=True)
class Linear:
    """A linear layer. `path` inside the decoder layer; `source`: what its input comes from. Layers of one source read the same tensor.
    `count`: how many the model has, 0: one in every decoder layer."""

    path: str
    inputs: int
    outputs: int
    source: Source
    bias: bool = False
    count: int = 0

    @property
    def weights(self) -> int:
        """Elements of its matrix."""
        return self.inputs * self.outputs

    @property
    def name(self) -> str:
        """What LoraConfig.target_modules calls it."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class Experts:
    """The experts of a mixture-of-experts layer, stacked in two tensors: gate and up (count, 2·width, hidden), down (count, hidden, width).

    `used`: experts a token goes through; `lora`: peft puts adapters on them when it is asked for all linear layers. `shared`: width of one
    that every token goes through beside them, whose layers are linear modules.
    """

    count: int
    used: int
    width: int
    lora: bool = False
    shared: int = 0


@dataclass(frozen=True)
class Shape:
    """A decoder-only language model. Sizes in elements.

    `norms` a layer over the hidden size, of kind `norm`: "rms" (llama's), "gemma" (scales in float32), "layer" (with bias).
    `qk_norm`: query and key are normalised, each head by itself or (`wide_qk_norm`) all together. `post_norm`: what attention and MLP put
    out is normalised too (where there are four norms) or alone (where there are two).
    `activation`: "gated" (act(gate)·up), "gelu" (one fused operation), "gelu_new" (the formula, step by step).
    `fused_qkv`: query, key and value are slices of one product. `rotary`: positions are rotated into copies of query and key.
    `parallel`: attention and MLP read the same residual stream. `residual_dropout`: a mask after each of both.
    `held_norm`: the layer's code still names what the attention's norm handed on when it comes to its MLP.
    `window`: tokens that sliding attention sees, None without. `other`: elements that are no part of a layer or an embedding of tokens
    (positions, last norm, what the config does not speak of). `measured`: what was counted on a model of a family without formulas; the
    fields that only formulas need are at their defaults then.
    """

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    linears: tuple[Linear, ...]
    default_targets: tuple[str, ...]
    mlp_width: int
    norm: Literal["rms", "gemma", "layer"] = "rms"
    norms: int = 2
    qk_norm: bool = False
    wide_qk_norm: bool = False
    post_norm: bool = False
    activation: Literal["gated", "gelu", "gelu_new"] = "gated"
    fused_qkv: bool = False
    rotary: bool = True
    parallel: bool = False
    residual_dropout: bool = False
    held_norm: bool = False
    window: int | None = None
    experts: Experts | None = None
    other: int = 0
    head_bias: bool = False
    measured: Measured | None = None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # figures are remembered by shape (a slider asks for the same ones a dozen times), and its fields are many
        return hash((self.family, self.hidden, self.layers, self.vocab, self.linears, self.experts))

    @property
    def query_width(self) -> int:
        """All query heads together."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """All key heads together; the values' too."""
        return self.kv_heads * self.head_dim

    def count(self, linear: Linear) -> int:
        """How many layers like it the model has."""
        return linear.count or self.layers

    @cached_property
    def linear_weights(self) -> int:
        """Elements of all matrices of one layer that are linear modules (what bitsandbytes quantises; stacked experts are none). Where
        layers differ: the mean."""
        return self.all_linear_weights // self.layers

    @cached_property
    def all_linear_weights(self) -> int:
        """The same of the whole model."""
        return sum(linear.weights * self.count(linear) for linear in self.linears)

    @cached_property
    def expert_weights(self) -> int:
        """Elements of one layer's stacked experts."""
        return 0 if self.experts is None else 3 * self.experts.count * self.experts.width * self.hidden

    @cached_property
    def small_tensors(self) -> tuple[int, ...]:
        """Elements of the vectors of one layer: norms and biases."""
        each_norm = (self.hidden,) * (2 if self.norm == "layer" else 1)
        heads = (self.query_width, self.key_width) if self.wide_qk_norm else (self.head_dim, self.head_dim)
        router = (self.hidden * self.experts.count,) if self.experts else ()
        return (
            each_norm * self.norms
            + (heads if self.qk_norm else ())
            + router
            + tuple(linear.outputs for linear in self.linears if linear.bias)
        )

    @property
    def embedding(self) -> int:
        """Elements of the input embedding; an untied head has as many again."""
        return self.vocab * self.hidden

    @cached_property
    def parameters(self) -> int:
        """Elements of the whole model."""
        ends = self.embedding * (1 if self.tied else 2) + (self.vocab if self.head_bias else 0) + self.other
        if self.measured is not None:
            return ends + self.all_linear_weights + sum(size * count for size, count in self.measured.tensors)
        return ends + self.all_linear_weights + (self.expert_weights + sum(self.small_tensors)) * self.layers

    def targets(self, wanted: str | Iterable[str] | None) -> tuple[Linear, ...]:
        """The linear layers that LoraConfig.target_modules means: "all-linear", a regular expression, names; None: peft's choice.

        A regular expression is tried on the first layer (peft tries it on each). UserError for one that is none.
        """
        if wanted is None:
            wanted = self.default_targets
        if wanted == "all-linear":
            return self.linears
        if isinstance(wanted, str):
            try:
                expression = re.compile(wanted)
            except re.error as error:
                shown = printable(wanted, limit=60)
                raise UserError(f"peft.target_modules: {shown} is no regular expression ({error}); mend it, or name a list") from None
            return tuple(linear for linear in self.linears if expression.fullmatch(f"model.layers.0.{linear.path}"))
        names = tuple(wanted)
        return tuple(one for one in self.linears if any(one.path == name or one.path.endswith(f".{name}") for name in names))

    def adapts_experts(self, wanted: str | Iterable[str] | None) -> bool:
        """Whether peft puts adapters on the stacked experts too: when it is asked for all linear layers, in the families it converts."""
        return self.experts is not None and self.experts.lora and wanted == "all-linear"
