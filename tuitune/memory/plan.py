"""The plan: what is in memory at each phase of a step, the peak over them, as torch counts it and as NVML shows it.

`plan(shape, settings, device)` is a pure function of three records.
"""

from dataclasses import dataclass, replace

from tuitune.memory import activations, loss, static, working
from tuitune.memory.settings import Device, Settings
from tuitune.memory.shape import Shape

# Blocks that torch's allocator has and nobody uses, as a share of what is allocated. Calibrated: of 12 runs on one H200 with the usual
# allocator 11 had 1.4 to 5 % beside the idle logits of a full loss, 2.3 % in the middle. Expandable segments: not measured yet, as much.
UNUSED = 0.025


@dataclass(frozen=True)
class Component:
    """`bytes` of memory for one purpose, at the phase's highest moment."""

    name: str
    bytes: int
    phase: str


@dataclass(frozen=True)
class Plan:
    """`components`: of every phase, and outside of torch ("process"). `allocated`: what torch.cuda.max_memory_allocated will say; `nvml`: what
    nvidia-smi will show; `paged` of it gives way when memory is short (bitsandbytes' paged states move to the host)."""

    components: tuple[Component, ...]
    phases: dict[str, int]
    peak: str
    allocated: int
    nvml: int
    paged: int

    @property
    def needed(self) -> int:
        """Bytes that a card must have."""
        return self.nvml - self.paged

    def of_phase(self, phase: str) -> list[Component]:
        """The components of one phase that are not empty."""
        return [component for component in self.components if component.phase == phase and component.bytes]


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
    totals = {name: sum(parts.values()) for name, parts in phases.items()}
    peak = max(totals, key=lambda name: totals[name])
    unused = int(totals[peak] * UNUSED) + loss.idle_bytes(shape, settings)
    process = {"CUDA context and kernels": device.context, "unused by the allocator": unused, "paged optimizer states": paged}
    return Plan(
        components=tuple(Component(key, size, name) for name, parts in (phases | {"process": process}).items() for key, size in parts.items()),
        phases=totals,
        peak=peak,
        allocated=totals[peak],
        nvml=totals[peak] + sum(process.values()),
        paged=paged,
    )


def _moving(shape: Shape, settings: Settings) -> dict[str, dict[str, int]]:
    """Phase → what is there beside what stays."""
    gradients = static.gradient_bytes(shape, settings)
    accumulated = gradients if settings.accumulation > 1 else 0
    kept = _kept(shape, settings)
    phases = {
        "forward": {
            **kept,
            "gradients": accumulated,
            "16-bit weights": _cached_casts(shape, settings),
            "loss": loss.forward_bytes(shape, settings),
        },
        "loss": {**kept, "gradients": accumulated, "loss": loss.backward_bytes(shape, settings)},
        **_backward(shape, settings, gradients),
        "optimizer step": {"gradients": gradients, "optimizer's copies": static.optimizer(settings).copies * gradients},
    }
    if settings.reference != "none":
        phases["reference"] = {**kept, "gradients": accumulated, **_reference(shape, settings)}
    if settings.eval_batch:
        phases["evaluation"] = _evaluation(shape, settings)
    return phases


def _kept(shape: Shape, settings: Settings) -> dict[str, int]:
    """What the whole forward pass has kept when it ends."""
    checkpoints = _checkpointed(shape, settings)
    return {
        "checkpoints": checkpoints * activations.checkpoint_bytes(shape, settings),
        "activations": (shape.layers - checkpoints) * activations.layer_bytes(shape, settings) + loss.final_norm_bytes(shape, settings),
        "mask": activations.mask_bytes(shape, settings),
        "positions": 2 * settings.weight_bytes * settings.length * shape.head_dim if shape.rotary else 0,
    }


def _checkpointed(shape: Shape, settings: Settings) -> int:
    """Layers of which only the input is kept: every n-th, the first included (transformers' activation_checkpointing_enable)."""
    return -(-shape.layers // settings.checkpoint_every) if settings.checkpoint_every else 0


def _cached_casts(shape: Shape, settings: Settings) -> int:
    """Autocast keeps the 16-bit copies of trained float32 weights to the end of the forward pass, also those of checkpointed layers."""
    if not settings.casts or settings.lora:
        return 0
    return 2 * (shape.linear_weights + shape.expert_weights) * _checkpointed(shape, settings)


def _backward(shape: Shape, settings: Settings, gradients: int) -> dict[str, dict[str, int]]:
    """The backward pass at its ends: the last layer (all activations, few gradients), the first one (few, all), the embedding.

    Between them both change in proportion to the layers, so one of the ends is the highest.
    """
    every, checkpointed = settings.checkpoint_every, _checkpointed(shape, settings)
    alone, full = shape.layers - checkpointed, not settings.lora
    kept, each = activations.checkpoint_bytes(shape, settings), activations.layer_bytes(shape, settings)
    head = 0 if settings.lora or settings.loss == "none" else shape.embedding * settings.trained_bytes
    twice = head if shape.tied else 0  # two gradients of one matrix: the head's waits for the embedding's
    around = {"mask": activations.mask_bytes(shape, settings), "positions": _kept(shape, settings)["positions"]}
    accumulated = settings.accumulation > 1
    before = gradients + twice if accumulated else head
    last_checkpointed = every > 0 and (shape.layers - 1) % every == 0
    below = alone - (0 if last_checkpointed or not every else (shape.layers - 1) % every)  # those above the last checkpointed layer are freed
    phases = {
        "backward, last layer": {
            **around,
            "gradients": before,
            "checkpoints": checkpointed * kept,
            "activations": (alone if last_checkpointed else alone - 1) * each,
            "one layer": working.layer_peak(shape, settings, last_checkpointed),
        },
        "backward, first layer": {
            **around,
            "gradients": gradients + twice if accumulated or settings.lora else gradients - shape.embedding * settings.trained_bytes + twice,
            "checkpoints": kept if checkpointed else 0,
            "one layer": working.layer_peak(shape, settings, checkpointed > 0),
        },
    }
    if every > 1 and not last_checkpointed:
        phases["backward, last checkpointed layer"] = {
            **around,
            "gradients": before,
            "checkpoints": checkpointed * kept,
            "activations": below * each,
            "one layer": working.layer_peak(shape, settings, True),
        }
    if full:
        embedding = shape.embedding * settings.trained_bytes
        extra = (twice + embedding if accumulated else twice)
        phases["backward, embedding"] = {"gradients": gradients + extra, "one layer": kept}
    return phases


def _reference(shape: Shape, settings: Settings) -> dict[str, int]:
    """The reference's forward pass, which runs while the policy waits with all it kept, its scored hidden states included."""
    waiting = settings.weight_bytes * loss.scored_positions(settings) * shape.hidden
    during = working.forward_bytes(shape, settings, settings.tokens, adapted=settings.reference == "adapter")
    return {"one layer": during, "loss": waiting + max(loss.evaluation_bytes(shape, settings, settings.tokens) - during, 0)}


def _evaluation(shape: Shape, settings: Settings) -> dict[str, int]:
    """One evaluation batch without gradients: one layer at a time, then the loss."""
    batch = replace(settings, batch=settings.eval_batch)
    during = working.forward_bytes(shape, batch, batch.tokens, adapted=settings.lora)
    return {
        "one layer": during,
        "mask": activations.mask_bytes(shape, batch) + activations.layer_mask_bytes(shape, batch),
        "loss": max(loss.evaluation_bytes(shape, batch, batch.tokens) - during, 0),
    }
