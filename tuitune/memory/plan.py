"""The plan: what is in memory at each phase of a step, the peak over them, as torch counts it and as NVML shows it.

`plan(shape, settings, device)` is a pure function of three records.
"""

from dataclasses import dataclass, replace

from tuitune.memory import activations, backward, loss, several, static, working
from tuitune.memory.settings import Device, Settings
from tuitune.memory.shape import Shape

# Blocks that torch's allocator has and nobody uses, as a share of what is allocated, beside the idle logits of a full loss. Calibrated
# on one H200 (tests/support/recorded): 12 runs with the usual allocator and rows of one length 1.4 to 5 %, 2.3 % in the middle; 18 with
# rows of two lengths 1 to 16 %, 6.7 % in the middle; 20 of these with segments that grow 0.2 to 12 %, 2.3 % in the middle.
UNUSED, UNUSED_AMONG_LENGTHS = 0.025, 0.065


@dataclass(frozen=True)
class Component:
    """`bytes` of memory for one purpose, at the phase's highest moment."""

    name: str
    bytes: int
    phase: str


@dataclass(frozen=True)
class Plan:
    """`parts`: phase, and "process" for what is outside of torch → purpose → bytes. `allocated`: what torch.cuda.max_memory_allocated will
    say; `nvml`: what nvidia-smi will show; `paged` of it gives way when memory is short (bitsandbytes' paged states move to the host)."""

    parts: dict[str, dict[str, int]]
    phases: dict[str, int]
    peak: str
    allocated: int
    nvml: int
    paged: int

    @property
    def needed(self) -> int:
        """Bytes that a card must have."""
        return self.nvml - self.paged

    @property
    def components(self) -> list[Component]:
        """`parts` one by one. Made when they are looked at: the sliders plan hundreds of times for one that is shown."""
        return [Component(name, size, phase) for phase, parts in self.parts.items() for name, size in parts.items()]

    def of_phase(self, phase: str) -> list[Component]:
        """The components of one phase that are not empty."""
        return [Component(name, size, phase) for name, size in self.parts.get(phase, {}).items() if size]


def plan(shape: Shape, settings: Settings, device: Device) -> Plan:
    """Plan one run. UserError for what there are no figures for."""
    states, paged = static.state_bytes(shape, settings)
    stays = {
        "weights": static.model_bytes(shape, settings),
        "adapter": static.adapter_bytes(shape, settings),
        "reference": static.reference_bytes(shape, settings),
        "optimizer states": states,
        "cuBLAS workspace": 2 * device.workspace,
    }
    phases = {name: stays | parts for name, parts in _moving(shape, settings).items()}
    phases["load"] = {key: stays[key] for key in ("weights", "adapter", "reference")}
    phases = several.on_each(phases, shape, settings)
    totals = {name: sum(parts.values()) for name, parts in phases.items()}
    peak = max(totals, key=lambda name: totals[name])
    unused = int(totals[peak] * unused_share(settings, device)) + loss.idle_bytes(shape, settings)
    process = {"CUDA context and kernels": device.context, "unused by the allocator": unused, "paged optimizer states": paged}
    return Plan(
        parts=phases | {"process": process},
        phases=totals,
        peak=peak,
        allocated=totals[peak],
        nvml=totals[peak] + sum(process.values()),
        paged=paged,
    )


def unused_share(settings: Settings, device: Device) -> float:
    """The allocator's unused part as a share of what is allocated: where its blocks fit badly the general figure, else this box's own."""
    if not has_usual_share(settings):
        return UNUSED_AMONG_LENGTHS
    return UNUSED if device.unused is None else device.unused


def has_usual_share(settings: Settings) -> bool:
    """Whether the allocator's blocks can be used again: segments grow, or the rows of all batches have one length."""
    return settings.expandable or not settings.padded


def _moving(shape: Shape, settings: Settings) -> dict[str, dict[str, int]]:
    """Phase → what is there beside what stays."""
    updated, settings = static.gradient_bytes(shape, settings), several.computed(settings)
    gradients = static.gradient_bytes(shape, settings)
    accumulated = gradients if settings.accumulation > 1 else 0
    kept = backward.kept(shape, settings)
    phases = {
        "forward": {
            **kept,
            "gradients": accumulated,
            "16-bit weights": _cached_casts(shape, settings),
            "loss": loss.forward_bytes(shape, settings),
        },
        "loss": {**kept, "gradients": accumulated, "loss": loss.backward_bytes(shape, settings)},
        **backward.phases(shape, settings),
        "optimizer step": {"gradients": updated, "optimizer's copies": static.optimizer(settings).copies * updated},
    }
    if settings.reference != "none":
        phases["reference"] = {**kept, "gradients": accumulated, **_reference(shape, settings)}
    if settings.eval_batch:
        phases["evaluation"] = _evaluation(shape, settings)
    return phases


def _cached_casts(shape: Shape, settings: Settings) -> int:
    """Autocast keeps the 16-bit copies of trained float32 weights to the end of the forward pass, also those of checkpointed layers."""
    if not settings.casts or settings.lora:
        return 0
    return 2 * (shape.linear_weights + shape.expert_weights) * backward.checkpointed_layers(shape, settings)


def _reference(shape: Shape, settings: Settings) -> dict[str, int]:
    """The reference's forward pass, which runs while the policy waits with all it kept, its scored hidden states included."""
    waiting = settings.weight_bytes * loss.scored_positions(settings) * shape.hidden
    during = working.forward_bytes(shape, settings, settings.tokens, adapted=settings.reference == "adapter")
    return {"one layer at work": during, "loss": waiting + max(loss.evaluation_bytes(shape, settings, settings.tokens) - during, 0)}


def _evaluation(shape: Shape, settings: Settings) -> dict[str, int]:
    """One evaluation batch without gradients: one layer at a time, then the loss."""
    batch = replace(settings, batch=settings.eval_batch, length=settings.evaluated_length, sums=())
    during = working.forward_bytes(shape, batch, batch.tokens, adapted=settings.lora)
    return {
        "one layer at work": during,
        "mask": activations.mask_bytes(shape, batch) + activations.layer_mask_bytes(shape, batch),
        "loss": max(loss.evaluation_bytes(shape, batch, batch.tokens) - during, 0),
    }
