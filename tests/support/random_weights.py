"""Models of real shapes with random weights, on the GPU where there is one: memory and speed do not depend on what the weights are."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save_random_weights(config: Mapping[str, Any], target: Path) -> None:
    """A bfloat16 model of this config.json as safetensors in `target`, by a process of its own."""
    code = f"""
import torch
from transformers import AutoConfig, AutoModelForCausalLM
shape = {dict(config)!r}
config = AutoConfig.for_model(shape.pop("model_type"), **shape, dtype=torch.bfloat16)
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
    model = AutoModelForCausalLM.from_config(config)
model.save_pretrained({str(target)!r}, max_shard_size="2GB")
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
