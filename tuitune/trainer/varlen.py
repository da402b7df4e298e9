"""Attention for rows that lie one after the other without padding: each attends to itself alone, and no mask is made.

On a GPU by PyTorch's own flash kernel for such rows (torch.nn.attention.varlen), on the CPU and in 32 bits by its fused one, row by row.
TRL's collator says where the rows begin (`cu_seq_lens_q`). What comes with a mask or without these (generation, padded batches) goes
through transformers' own sdpa. Whoever imports this module makes NAME known to transformers, so that `attn_implementation` can say it.
"""

import inspect
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "varlen"


def mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor | None:
    """sdpa's mask for rows that are padded, none for rows that are not."""
    return None if attention_mask is None else sdpa_mask(*args, attention_mask=attention_mask, **kwargs)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, tokens, head size], key and value with their own number of heads → [1, tokens, heads, head size].

    NotImplementedError for what the kernel leaves out (soft caps, dropout of attention weights, sinks).
    """
    starts = kwargs.get("cu_seq_lens_q")
    if starts is None or attention_mask is not None:
        made = sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
        return made[0], None
    unknown = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if unknown or dropout:
        raise NotImplementedError(f"{NAME} attention has no {', '.join(unknown) or 'dropout'}; write model.attn_implementation: sdpa")
    window = kwargs.get("sliding_window")
    kind = torch.get_autocast_dtype("cuda") if query.dtype == torch.float32 and torch.is_autocast_enabled("cuda") else query.dtype
    if query.is_cuda and kind != torch.float32:  # the kernel multiplies 16 bits; norms of float32 weights leave autocast's products in 32
        return _on_gpu(query.to(kind), key.to(kind), value.to(kind), starts, int(kwargs["max_length_q"]), scaling, window)[None], None
    borders = starts.tolist()
    rows = [_row(query[:, :, begin:end], key[:, :, begin:end], value[:, :, begin:end], scaling, window) for begin, end in pairwise(borders)]
    return torch.cat(rows, dim=2).transpose(1, 2), None


def _on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    flat = [part[0].transpose(0, 1) for part in (query, key, value)]
    seen = (-1 if window is None else window - 1, 0)  # how far back, and nothing ahead
    given = {"enable_gqa": True} if _says_grouped() and query.shape[1] != key.shape[1] else {}
    found: torch.Tensor = varlen_attn(*flat, starts, starts, longest, longest, scale=scaling, window_size=seen, **given)
    return found


@cache
def _says_grouped() -> bool:
    """torch 2.13 wants to be told of fewer key heads; before, its kernel took them as they are."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in inspect.signature(varlen_attn).parameters


def _row(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None) -> torch.Tensor:
    length, grouped = query.shape[2], query.shape[1] != key.shape[1]
    if window is None or length <= window:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
    place = torch.arange(length, device=query.device)
    seen = (place[:, None] >= place) & (place[:, None] - place < window)
    return scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scaling, enable_gqa=grouped)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
