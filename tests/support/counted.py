"""An analyst's answer about a model of a family without formulas, in an instant: round numbers for all ways that are asked for."""

from typing import Any

CONFIG = {"model_type": "cohere2", "hidden_size": 512, "num_hidden_layers": 4, "vocab_size": 1024}
PARAMETERS = 1024 * 512 + 4 * (512 * 512 + 2 * 512 * 2048 + 512) + 512


class FakeCount:
    """What tuitune.planning calls; `asked`: the wishes so far."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, wishes: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(wishes)
        targets = [
            list(wish) if isinstance(wish, list) else wish
            for wish in {str(way["targets"]): way["targets"] for way in wishes["ways"]}.values()
        ]
        return {
            "family": "cohere2",
            **{"hidden": 512, "vocab": 1024, "layers": 4, "heads": 8, "kv_heads": 8, "tied": True, "head_bias": False, "window": None},
            "linears": [
                ["self_attn.o_proj", 512, 512, False, 4],
                ["mlp.up_proj", 512, 2048, False, 4],
                ["mlp.down_proj", 2048, 512, False, 4],
            ],
            "measured": {
                "tensors": [[512, 5]],
                "adapters": [{"targets": wanted, "tensors": [[512, 16], [2048, 8]], "modules": 12} for wanted in [*targets, "all-linear"]],
                "footprints": [[way, footprint(way)] for way in wishes["ways"]],
            },
        }


def footprint(way: dict[str, Any]) -> dict[str, Any]:
    def growth(token: float) -> dict[str, float]:
        return {"constant": 1e6, "token": token, "entry": 2.0 if way["masked"] else 0.0, "least": 0.0}

    return {
        **{"layer": growth(20_000.0), "moment": growth(9_000.0), "recomputed": growth(11_000.0), "whole": growth(64.0)},
        **{"final": growth(2048.0), "norm": growth(10_000.0), "evaluation": growth(9_000.0)},
    }
